/* Printing: what is said of a program in each format, and that hostile names cannot break it. */
#include "taped.h"

#include <cjson/cJSON.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "wengert/notation.h"

typedef struct sink {
    char *text;
    size_t size;
} sink;

static void collect(void *user, const char *text, size_t size) {
    sink *s = user;
    s->text = realloc(s->text, s->size + size + 1);
    memcpy(s->text + s->size, text, size);
    s->size += size;
    s->text[s->size] = 0;
}

static char *printed(int n, const wg_var *y, wg_print_options options) {
    sink s = {0};
    wg_error error = {0};
    cr_assert_eq(wg_print(n, y, &options, collect, &s, &error), WG_OK, "%s", error.text);
    return s.text;
}

Test(print, text_says_every_instruction_once) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){3, 4}, 1);
    wg__origin_set(tape, wg__origin_new(tape, "a.cell:7"));
    wg_var x = wg_leaf(tape, t);
    wg__step_mark(tape, 1, 5);
    exp(x); /* not needed */
    wg_var a = tanh(x), b = mul(a, 0.1), y = add(b, tanh(x));
    char *text = printed(1, &y, (wg_print_options){0});
    cr_assert_str_eq(text,
                     "program after record: 6 instructions\n"
                     "%1 = leaf f32(3,4) tensor 0  at \"a.cell:7\"\n"
                     "%2 = tanh f32(3,4) %1  step 5 of unroll 1  at \"a.cell:7\"\n"
                     "%3 = constant f32(3,4) 0.1  step 5 of unroll 1  at \"a.cell:7\"\n"
                     "%4 = mul f32(3,4) %2 %3  step 5 of unroll 1  at \"a.cell:7\"\n"
                     "%5 = tanh f32(3,4) %1  step 5 of unroll 1  at \"a.cell:7\"\n"
                     "%6 = add f32(3,4) %4 %5  step 5 of unroll 1  at \"a.cell:7\"\n"
                     "outputs %6\n",
                     "%s", text);
    free(text);
    text = printed(1, &y, (wg_print_options){.after = "simplify"});
    cr_assert(strstr(text, "program after simplify: 5 instructions\n"), "%s", text);
    cr_assert(strstr(text, "%5 = add f32(3,4) %4 %2"), "%s", text);
    free(text);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(print, shows_the_memory_map_after_place) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){8, 4}, 1);
    wg_var x = exp(wg_leaf(tape, t)), y = wg_matmul(x, x, false, true), z = sum_to(mul(y, y), 0, NULL);
    char *text = printed(1, &z, (wg_print_options){.after = "place"});
    cr_assert(strstr(text, "%2 = exp f32(8,4) %1  arena[0,128)  live to %"), "%s", text);
    cr_assert(strstr(text, "output 0  live to the end"), "%s", text);
    cr_assert(strstr(text, "arena "), "%s", text);
    free(text);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

static const char hostile[] = "q\"uo\\te\n\x01\xff end \xc3\xa9";

/* A program whose names are hostile: a parameter's and a place's. */
static wg_var hostile_program(wg_tape *tape, wg_params *names, wg_tensor *t) {
    wg__origin_set(tape, wg__origin_new(tape, hostile));
    cr_assert_eq(wg_params_add(names, "q\"uo\\te\n\x01 \xc3\xa9", t), WG_OK);
    wg_var x = wg_leaf(tape, t);
    return add(transpose(x), wg_like(transpose(x), 1.0 / 3));
}

Test(print, json_is_json_whatever_the_names_and_the_locale) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){2, 3}, 1);
    wg_params *names = wg_params_new(NULL);
    wg_var y[2] = {hostile_program(tape, names, t), wg_like(wg_leaf(tape, t), -INFINITY)};
    for (int i = -1; i < 0 || wg_pass_name(i); i++) {
        setlocale(LC_ALL, "de_DE.UTF-8"); /* where there is one */
        char *text = printed(2, y, (wg_print_options){.format = WG_PRINT_JSON, .after = i < 0 ? NULL : wg_pass_name(i), .names = names});
        setlocale(LC_ALL, "C");
        cJSON *json = cJSON_Parse(text);
        cr_assert_not_null(json, "%s", text);
        cr_assert_str_eq(cJSON_GetObjectItem(json, "after")->valuestring, i < 0 ? "record" : wg_pass_name(i));
        cJSON *list = cJSON_GetObjectItem(json, "instructions"), *leaf = cJSON_GetArrayItem(list, 0), *each;
        cr_assert_str_eq(cJSON_GetObjectItem(leaf, "name")->valuestring, "q\"uo\\te\n\x01 \xc3\xa9");
        cr_assert_str_eq(cJSON_GetObjectItem(leaf, "origin")->valuestring, "q\"uo\\te\n\x01\xef\xbf\xbd end \xc3\xa9");
        bool third = false;
        cJSON_ArrayForEach(each, list) {
            cJSON *value = cJSON_GetObjectItem(each, "value");
            third = third || (value && value->valuedouble == 1.0 / 3);
        }
        cr_assert(third, "%s", text);
        cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(json, "outputs")), 2);
        cr_assert_eq(cJSON_GetObjectItem(json, "memory") != NULL, i >= 0 && (strcmp(wg_pass_name(i), "place") == 0 || strcmp(wg_pass_name(i), "schedule") == 0));
        cJSON_Delete(json);
        free(text);
    }
    wg_params_free(names);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(print, dot_escapes_names_and_has_an_edge_for_every_operand) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){2, 3}, 1);
    wg_params *names = wg_params_new(NULL);
    wg_var y = hostile_program(tape, names, t);
    char *text = printed(1, &y, (wg_print_options){.format = WG_PRINT_DOT, .names = names});
    cr_assert(strstr(text, "digraph program {\n") == text && strcmp(text + strlen(text) - 2, "}\n") == 0, "%s", text);
    cr_assert(strstr(text, "n1 [shape=box,label=\"%1 leaf f64 (2,3) q\\\"uo\\\\te\\\\x0a\\\\x01 \xc3\xa9\"];\n"), "%s", text);
    int edges = 0;
    for (const char *at = text; (at = strstr(at, " -> ")); at++)
        edges++;
    cr_assert_eq(edges, 3, "%s", text);
    free(text);
    wg_params_free(names);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(print, says_that_there_is_no_such_pass) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_scalar(NULL, WG_F64, 1);
    wg_var x = wg_leaf(tape, t);
    wg_error error = {0};
    sink s = {0};
    cr_assert_eq(wg_print(1, &x, &(wg_print_options){.after = "melt"}, collect, &s, &error), WG_NOT_FOUND);
    cr_assert_str_eq(error.text, "compile: there is no pass 'melt'");
    cr_assert_null(s.text);
    wg_tape_free(tape);
    wg_tensor_free(t);
}

Test(print, shows_attributes_in_every_format) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F64, 2, (const int64_t[]){2, 3}, 1), *k = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){2});
    wg_var x = wg_leaf(tape, t), parts[2] = {wg_slice(x, 1, 1, 2), wg_gather(x, wg_leaf(tape, k), -1)};
    wg_var y = wg_matmul(wg_concat(2, parts, 1), wg_reshape(wg_permute(x, 2, (const int[]){1, 0}), 2, (const int64_t[]){-1, 3}), true, false);
    y = wg_sum_to(y, 1, (const int64_t[]){3});
    static const char *const said[] = {"axis=1 from=1 count=2", "axis=-1", "axis=1", "axes=(1,0)", "to=(-1,3)", "transpose_a", "to=(3)"};
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
    for (wg_print_format format = WG_PRINT_TEXT; format <= WG_PRINT_JSON; format++) {
        char *text = printed(1, &y, (wg_print_options){.format = format});
        for (size_t i = 0; i < sizeof said / sizeof *said; i++)
            cr_expect_not_null(strstr(text, said[i]), "%s is not in\n%s", said[i], text);
        free(text);
    }
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(k);
}
