/* The process's use of the machine, with the names that all Prometheus clients use. */
#pragma once

/* Updates them; call before the metrics are printed. Loop thread only. */
void process_metrics_look(void);
