/* What the process uses of the machine, by the names that all Prometheus clients give it. */
#pragma once

/* Looks anew; before the metrics are printed. Loop thread only. */
void process_metrics_look(void);
