/* Buffers. */
#include "tests/unit/check.h"

#include "common/base/buf.h"

static void test_a_buffer_grows_and_stays_terminated(void **state)
{
        auto_buf buf = { 0 };

        (void)state;
        for (int i = 0; i < 1000; i++) {
                buf_printf(&buf, "%d,", i);
                assert_int_equal(buf.data[buf.length], '\0');
        }
        assert_int_equal(buf.length, strlen(buf.data));
        assert_memory_equal(buf.data, "0,1,2,3,", 8);
        assert_string_equal(buf.data + buf.length - 8, "998,999,");
}

static void test_a_buffer_keeps_nul_bytes_and_takes_nothing_from_nothing(void **state)
{
        auto_buf buf = { 0 };

        (void)state;
        buf_add(&buf, NULL, 0);
        assert_int_equal(buf.length, 0);
        buf_add(&buf, "a\0b", 3);
        assert_int_equal(buf.length, 3);
        assert_memory_equal(buf.data, "a\0b", 4);
        buf_reset(&buf);
        assert_int_equal(buf.length, 0);
        assert_string_equal(buf.data, "");
}

static void test_a_taken_buffer_is_never_null_and_leaves_an_empty_one(void **state)
{
        struct buf buf = { 0 };
        auto_free char *empty = buf_take(&buf);
        auto_free char *text = NULL;

        (void)state;
        assert_string_equal(empty, "");
        buf_add_text(&buf, "tenant");
        text = buf_take(&buf);
        assert_string_equal(text, "tenant");
        assert_null(buf.data);
        assert_int_equal(buf.length, 0);
        buf_free(&buf);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                SENTENCE(test_a_buffer_grows_and_stays_terminated),
                SENTENCE(test_a_buffer_keeps_nul_bytes_and_takes_nothing_from_nothing),
                SENTENCE(test_a_taken_buffer_is_never_null_and_leaves_an_empty_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
