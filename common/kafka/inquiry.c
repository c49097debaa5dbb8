/* Questions that only the brokers can answer: see consumer_private.h. */
#include "common/kafka/consumer_private.h"

#define BROKER_TIMEOUT 2000 /* ms */

static void inquiry_released(uv_handle_t *handle)
{
        struct inquiry *inquiry = handle->data;

        inquiry->release(inquiry);
}

static void inquiry_close(struct inquiry *inquiry)
{
        inquiry->consumer->inquiry = NULL;
        uv_close((uv_handle_t *)&inquiry->timer, inquiry_released);
}

static void inquiry_ask(uv_work_t *work)
{
        struct inquiry *inquiry = CONTAINER_OF(work, struct inquiry, work);

        inquiry->ask(inquiry);
}

static void inquiry_put_question(uv_timer_t *timer);

static void inquiry_answered(uv_work_t *work, int status)
{
        struct inquiry *inquiry = CONTAINER_OF(work, struct inquiry, work);
        struct kafka_consumer *consumer = inquiry->consumer;

        (void)status;
        inquiry->under_way = false;
        if (consumer->freed)
                kafka_consumer_free(consumer);
        else if (inquiry->answered(inquiry))
                uv_timer_start(&inquiry->timer, inquiry_put_question, (uint64_t)inquiry->interval_ms, 0);
        else
                inquiry_close(inquiry);
}

static void inquiry_put_question(uv_timer_t *timer)
{
        struct inquiry *inquiry = timer->data;

        inquiry->under_way = true;
        if (inquiry->prepare != NULL)
                inquiry->prepare(inquiry);
        uv_queue_work(inquiry->consumer->loop, &inquiry->work, inquiry_ask, inquiry_answered);
}

bool inquiry_find_ends(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list)
{
        /* For the time -1 ("latest" in the protocol) Kafka returns the end: one request to each broker for all
         * partitions. */
        for (int i = 0; i < list->cnt; i++)
                list->elems[i].offset = RD_KAFKA_OFFSET_END;
        if (rd_kafka_offsets_for_times(rk, list, BROKER_TIMEOUT) != RD_KAFKA_RESP_ERR_NO_ERROR)
                return false;
        for (int i = 0; i < list->cnt; i++)
                if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR || list->elems[i].offset < 0)
                        return false;
        return true;
}

void inquiry_begin(struct kafka_consumer *consumer, struct inquiry *inquiry, int64_t delay_ms)
{
        assert(consumer->inquiry == NULL);
        consumer->inquiry = inquiry;
        inquiry->consumer = consumer;
        uv_timer_init(consumer->loop, &inquiry->timer);
        inquiry->timer.data = inquiry;
        uv_timer_start(&inquiry->timer, inquiry_put_question, (uint64_t)delay_ms, 0);
        uv_unref((uv_handle_t *)&inquiry->timer);
}

bool inquiry_end(struct kafka_consumer *consumer)
{
        if (consumer->inquiry == NULL)
                return false;
        if (consumer->inquiry->under_way)
                return true;
        inquiry_close(consumer->inquiry);
        return false;
}
