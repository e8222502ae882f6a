/* UTF-8, and hostile text in messages. */
#include "suite.h"

#include "core.h"
#include "failing.h"

#include <string.h>

Test(text, characters_of_every_length_are_read) {
    static const struct {
        const char *text;
        int length;
        uint32_t point;
    } good[] = {{"a", 1, 'a'},           {"\x7F", 1, 0x7F},         {"\xC2\x80", 2, 0x80},
                {"\xDF\xBF", 2, 0x7FF},  {"\xE0\xA0\x80", 3, 0x800}, {"\xED\x9F\xBF", 3, 0xD7FF},
                {"\xEE\x80\x80", 3, 0xE000}, {"\xF0\x90\x80\x80", 4, 0x10000},
                {"\xF4\x8F\xBF\xBF", 4, 0x10FFFF}};
    for (int i = 0; i < WG_LEN(good); i++) {
        uint32_t point = 0;
        cr_assert_eq(wg__utf8_next(good[i].text, strlen(good[i].text), &point), good[i].length);
        cr_assert_eq(point, good[i].point);
        cr_assert_eq(wg__utf8_next(good[i].text, strlen(good[i].text) - 1, &point), 0, "row %d", i);
    }
    uint32_t zero = 1;
    cr_assert_eq(wg__utf8_next("\0", 1, &zero), 1);
    cr_assert_eq(zero, 0);
}

Test(text, what_is_no_utf8_is_refused) {
    static const char *bad[] = {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                                "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                                "\xF8\x88\x80\x80\x80", "\xFF", "\xC3(", "\xE2\x82(", "\xE2(\x82"};
    for (int i = 0; i < WG_LEN(bad); i++) {
        uint32_t point;
        cr_assert_eq(wg__utf8_next(bad[i], strlen(bad[i]), &point), 0, "row %d", i);
    }
    cr_assert_eq(wg__utf8_check("ab\xC3\xA9z", 5), 5);
    cr_assert_eq(wg__utf8_check("ab\xC3\xA9\xC3", 5), 4);
}

Test(text, quoting_shows_control_characters_and_bad_bytes) {
    char out[64];
    cr_assert_str_eq(wg__quote("h\xC3\xA9", out, sizeof out), "'h\xC3\xA9'");
    cr_assert_str_eq(wg__quote("a\nb\x1B[1m\x80", out, sizeof out), "'a\\x0Ab\\x1B[1m\\x80'");
    cr_assert_str_eq(wg__quote("\xE2\x80\xAE", out, sizeof out), "'\\xE2\\x80\\xAE'");
    cr_assert_str_eq(wg__quote("", out, sizeof out), "''");
}

Test(text, quoting_cuts_between_characters_and_fits) {
    char text[100], out[40];
    for (size_t lead = 0; lead < 8; lead++) {
        memset(text, 'a', lead);
        text[lead] = 0;
        while (strlen(text) < 60)
            strcat(text, "\xE2\x82\xAC");
        for (size_t size = 16; size <= sizeof out; size++) {
            memset(out, '#', sizeof out);
            wg__quote(text, out, size);
            size_t used = strlen(out);
            cr_assert_lt(used, size);
            cr_assert_eq(wg__utf8_check(out, used), used);
            cr_assert_str_eq(out + used - 4, "…'");
        }
    }
}

/* "0,1,…,99;" by pieces, one long piece by a format, and a JSON string. */
static void compose(wg_text *text) {
    for (int i = 0; i < 100; i++)
        wg__text_add(text, "%d%c", i, i < 99 ? ',' : ';');
    wg__text_add(text, "%500s", "x");
    wg__text_bytes(text, "", 0);
    wg__text_json(text, "a\"\\\x01\xC3\xA9");
}

Test(text, growing_text_holds_all_that_was_added) {
    wg_text text = {0};
    compose(&text);
    cr_assert(!text.refused);
    cr_assert_eq(text.used, 10 + 2 * 90 + 100 + 500 + strlen("'a\\'\\\\\\u0001\xC3\xA9'"));
    cr_assert_eq(strlen(text.text), text.used);
    cr_assert_eq(strncmp(text.text, "0,1,2,", 6), 0);
    cr_assert_eq(text.text[289], ';');
    cr_assert_str_eq(text.text + 290 + 499, "x\"a\\\"\\\\\\u0001\xC3\xA9\"");
    wg__give(NULL, text.text);
}

Test(text, every_allocation_of_growing_text_may_fail) {
    bool done = false;
    for (long k = 1; !done; k++) {
        failing f;
        wg_text text = {.memory = failing_memory(&f, k)};
        compose(&text);
        done = !text.refused;
        cr_assert_eq(done, !failing_failed(&f), "call %ld", k);
        cr_assert(!text.text || strlen(text.text) == text.used);
        wg__give(text.memory, text.text);
        cr_assert_eq(f.live, 0);
        wg_memory_free(text.memory);
    }
}
