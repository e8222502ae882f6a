/* print.c: programs as text, Graphviz DOT and JSON, with the memory map where one is made. What is printed goes to the
 * caller's sink; every name is escaped for its format. */
#include "plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct printer {
    const wg_program *program;
    const wg_params *names;
    void (*write)(void *user, const char *text, size_t size);
    void *user;
    size_t used;
    char text[2048];
} printer;

/* ---- the sink ---- */

static void flush(printer *o) {
    if (o->used)
        o->write(o->user, o->text, o->used);
    o->used = 0;
}

static void put(printer *o, const char *text, size_t size) {
    if (o->used + size > sizeof o->text)
        flush(o);
    if (size > sizeof o->text) {
        o->write(o->user, text, size);
        return;
    }
    memcpy(o->text + o->used, text, size);
    o->used += size;
}

static void say(printer *o, const char *format, ...) WG_PRINTF(2, 3);
static void say(printer *o, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(o, text, size < 0 ? 0 : (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

/* Hostile text between double quotes. JSON wants \u00HH, DOT and text take \xHH behind a doubled backslash. */
static void quoted(printer *o, const char *text, bool json) {
    put(o, "\"", 1);
    for (size_t left = strlen(text); left;) {
        uint32_t point = 0;
        int size = wg__utf8_next(text, left, &point);
        if (size == 0 || point < 0x20 || point == 0x7f)
            say(o, json ? "\\u%04x" : "\\\\x%02x", json && size == 0 ? 0xfffdu : (unsigned char)text[0]);
        else if (point == '"' || point == '\\')
            say(o, "\\%c", (char)point);
        else
            put(o, text, (size_t)size);
        text += size ? size : 1;
        left -= (size_t)(size ? size : 1);
    }
    put(o, "\"", 1);
}

/* A number that reads back as itself, with a point in every locale. */
static void number(printer *o, double value, bool json) {
    char text[64];
    if (!isfinite(value)) {
        const char *name = isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
        say(o, json ? "\"%s\"" : "%s", name);
        return;
    }
    snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, sizeof text, "%.17g", value);
    bool point = false;
    for (const char *c = text; *c; c++) {
        if (strchr("0123456789+-e", *c))
            put(o, c, 1);
        else if (!point)
            put(o, ".", 1), point = true;
    }
}

/* ---- what there is to say of an instruction ---- */

static uint32_t number_of(const wg_program *p, const wg_value *v) { return wg__in_bundle(p, v) ? v->index - (uint32_t)p->output_count : v->index; }

static const char *space_name(const wg_program *p, const wg_value *v) {
    static const char *const names[] = {"nowhere", "tensor", "constants", "arena", "output", "stack", "tile", "carried"};
    return wg__in_bundle(p, v) ? "bundle" : names[v->space];
}

static bool is_constant(const wg_instruction *i) { return i->op == &wg__op_constant; }

/* The name of a leaf's or store's tensor; NULL if it has none. */
static const char *tensor_name(const printer *o, const wg_instruction *i) {
    if (!i->slot || !o->names)
        return NULL;
    for (int k = 0; k < wg_params_count(o->names); k++)
        if (wg_params_tensor(o->names, k) == o->program->tensors[i->slot - 1])
            return wg_params_name(o->names, k);
    return NULL;
}

enum { ATTRIBUTES = 256 };

/* What the op says of its attributes, into text[ATTRIBUTES]; false if nothing. */
static bool attributes(const wg_instruction *i, char *text) {
    text[0] = text[ATTRIBUTES - 1] = 0;
    if (i->op->kind != WG_LEAF && !i->slot && i->attr && i->op->describe)
        i->op->describe(i->attr, text, ATTRIBUTES);
    return text[0];
}

static void list64(printer *o, int n, const int64_t *values) {
    for (int k = 0; k < n; k++)
        say(o, "%s%lld", k ? "," : "", (long long)values[k]);
}

/* ---- text ---- */

static void text_place(printer *o, int64_t id) {
    const wg_program *p = o->program;
    const wg_instruction *i = &p->list[id];
    const wg_value *v = &p->values[id];
    if (v->base != id) {
        say(o, "  in %%%u", v->base);
        if (v->shift)
            say(o, "+%lld", (long long)v->shift);
    } else if (v->task || wg__buffered(p, id)) {
        if (v->over)
            say(o, "  over %%%u", v->over);
        if (v->space == WG_IN_ARENA)
            say(o, "  arena[%zu,%zu)", v->offset, v->offset + wg__instruction_bytes(i));
        if (v->space == WG_IN_OUTPUT)
            say(o, "  %s %u", space_name(p, v), number_of(p, v));
        if (v->space == WG_IN_STACK)
            say(o, "  in stack %%%u", v->index);
        if (v->space == WG_IN_TILE)
            say(o, "  tile[%zu,…)", v->offset);
        if (v->last == WG_AT_END)
            say(o, "  live to the end");
        else
            say(o, "  live to %%%u", v->last);
    }
    if (v->stride) {
        say(o, "  strides (");
        list64(o, i->shape->rank, v->stride);
        say(o, ")");
    }
}

static void text_line(printer *o, int64_t id) {
    const wg_program *p = o->program;
    const wg_instruction *i = &p->list[id];
    char shape[128], described[ATTRIBUTES];
    say(o, "%s%%%lld = %s %s%s", i->loop ? "  " : "", (long long)id, i->op->name, wg_dtype_name((wg_dtype)i->dtype),
        wg_shape_text(i->shape, shape, sizeof shape));
    for (uint32_t k = 0; k < i->n; k++)
        say(o, " %%%u", wg__reads_const(i)[k]);
    if (is_constant(i)) {
        say(o, " ");
        number(o, i->value, false);
    }
    if (attributes(i, described)) {
        say(o, " ");
        quoted(o, described, false);
    }
    if (i->slot)
        say(o, " tensor %u", i->slot - 1);
    if (tensor_name(o, i)) {
        say(o, " ");
        quoted(o, tensor_name(o, i), false);
    }
    if (i->region)
        say(o, "  region %u", i->region);
    if (p->values)
        text_place(o, id);
    if (i->step)
        say(o, "  step %lld of unroll %u", (long long)p->steps[i->step].step, p->steps[i->step].unroll);
    if (i->origin) {
        say(o, "  at ");
        quoted(o, p->origins[i->origin], false);
    }
    say(o, "\n");
}

static void print_loop(printer *o, int64_t id) {
    const wg_loop *loop = &o->program->loops[o->program->list[id].loop - 1];
    say(o, "loop %u, %lld times", o->program->list[id].loop, (long long)loop->times);
    if (loop->shared)
        say(o, ", %lld rows together, each time shared by threads, with %zu bytes", (long long)loop->rows, loop->scratch);
    else if (loop->rows)
        say(o, ", %lld rows in tiles of %lld with %zu bytes each", (long long)loop->rows, (long long)loop->tile, loop->scratch);
    if (loop->strip)
        say(o, ", in strips of %lld", (long long)loop->strip);
    say(o, ":\n");
}

static void print_text(printer *o) {
    const wg_program *p = o->program;
    say(o, "program after %s: %lld instructions\n", p->after, (long long)(p->count - 1));
    for (int64_t id = 1; id < p->count; id++) {
        const wg_loop *loop = p->list[id].loop ? &p->loops[p->list[id].loop - 1] : NULL;
        if (loop && loop->from == id)
            print_loop(o, id);
        text_line(o, id);
    }
    for (int i = 0; i < p->output_count; i++)
        say(o, "%s%%%u", i ? " " : "outputs ", p->outputs[i]);
    say(o, "\n");
    if (p->placed)
        say(o, "arena %zu bytes (scratch from %zu), at most %zu live at once, constants %zu bytes\n", p->arena_bytes,
            p->scratch_at, p->live_bytes, p->constant_bytes);
}

/* ---- DOT ---- */

static void dot_node(printer *o, int64_t id, bool is_output) {
    static const char *const forms[] = {[WG_LEAF] = "box", [WG_VIEW] = "plaintext", [WG_PRODUCT] = "octagon",
                                        [WG_EFFECT] = "house", [WG_COMPOSITE] = NULL};
    const wg_program *p = o->program;
    const wg_instruction *i = &p->list[id];
    const wg_value *v = p->values ? &p->values[id] : NULL;
    char shape[128], described[ATTRIBUTES], label[1024];
    size_t at = 0;
    at += (size_t)snprintf(label, sizeof label, "%%%lld %.100s %s %s", (long long)id, i->op->name,
                           wg_dtype_name((wg_dtype)i->dtype), wg_shape_text(i->shape, shape, sizeof shape));
    if (attributes(i, described))
        at += (size_t)snprintf(label + at, sizeof label - at, " %s", described);
    if (tensor_name(o, i))
        at += (size_t)snprintf(label + at, sizeof label - at, " %.100s", tensor_name(o, i));
    if (v && v->base == id && v->space == WG_IN_ARENA)
        snprintf(label + at, sizeof label - at, " @%zu", v->offset);
    say(o, "  n%lld [shape=%s%s,label=", (long long)id, forms[i->op->kind] ? forms[i->op->kind] : "ellipse",
        is_output ? ",peripheries=2" : "");
    quoted(o, label, false);
    say(o, "];\n");
    for (uint32_t k = 0; k < i->n; k++)
        say(o, "  n%u -> n%lld;\n", wg__reads_const(i)[k], (long long)id);
}

/* False when out of memory. */
static bool print_dot(printer *o) {
    bool *is_output = wg__take0(o->program->memory, (size_t)o->program->count);
    if (!is_output)
        return false;
    for (int i = 0; i < o->program->output_count; i++)
        is_output[o->program->outputs[i]] = true;
    say(o, "digraph program {\n  rankdir=BT;\n  label=");
    quoted(o, o->program->after, false);
    say(o, ";\n");
    for (int64_t id = 1; id < o->program->count; id++)
        dot_node(o, id, is_output[id]);
    say(o, "}\n");
    wg__give(o->program->memory, is_output);
    return true;
}

/* ---- JSON ---- */

static void json_place(printer *o, int64_t id) {
    const wg_program *p = o->program;
    const wg_value *v = &p->values[id];
    say(o, ",\"base\":%u,\"shift\":%lld", v->base, (long long)v->shift);
    if (v->stride) {
        say(o, ",\"stride\":[");
        list64(o, p->list[id].shape->rank, v->stride);
        say(o, "]");
    }
    if (v->base != id)
        return;
    if (v->over)
        say(o, ",\"over\":%u", v->over);
    if (v->space != WG_NOWHERE)
        say(o, ",\"place\":{\"space\":\"%s\",\"index\":%u,\"offset\":%zu,\"bytes\":%zu}", space_name(p, v), number_of(p, v),
            v->offset, wg__instruction_bytes(&p->list[id]));
    if (v->last == WG_AT_END)
        say(o, ",\"last\":null");
    else
        say(o, ",\"last\":%u", v->last);
}

static void json_instruction(printer *o, int64_t id) {
    const wg_program *p = o->program;
    const wg_instruction *i = &p->list[id];
    char described[ATTRIBUTES];
    say(o, "%s\n  {\"id\":%lld,\"op\":", id > 1 ? "," : "", (long long)id);
    quoted(o, i->op->name, true);
    say(o, ",\"type\":\"%s\",\"shape\":[", wg_dtype_name((wg_dtype)i->dtype));
    list64(o, i->shape->rank, i->shape->dim);
    say(o, "],\"inputs\":[");
    for (uint32_t k = 0; k < i->n; k++)
        say(o, "%s%u", k ? "," : "", wg__reads_const(i)[k]);
    say(o, "]");
    if (attributes(i, described)) {
        say(o, ",\"attributes\":");
        quoted(o, described, true);
    }
    if (is_constant(i)) {
        say(o, ",\"value\":");
        number(o, i->value, true);
    }
    if (i->slot)
        say(o, ",\"tensor\":%u", i->slot - 1);
    if (tensor_name(o, i)) {
        say(o, ",\"name\":");
        quoted(o, tensor_name(o, i), true);
    }
    if (i->loop)
        say(o, ",\"loop\":%u,\"times\":%lld", i->loop, (long long)p->loops[i->loop - 1].times);
    if (i->step)
        say(o, ",\"unroll\":%u,\"step\":%lld", p->steps[i->step].unroll, (long long)p->steps[i->step].step);
    if (i->origin) {
        say(o, ",\"origin\":");
        quoted(o, p->origins[i->origin], true);
    }
    if (p->values)
        json_place(o, id);
    say(o, "}");
}

static void print_json(printer *o) {
    const wg_program *p = o->program;
    say(o, "{\"after\":\"%s\",\"instructions\":[", p->after);
    for (int64_t id = 1; id < p->count; id++)
        json_instruction(o, id);
    say(o, "\n],\"outputs\":[");
    for (int i = 0; i < p->output_count; i++)
        say(o, "%s%u", i ? "," : "", p->outputs[i]);
    say(o, "]");
    if (p->placed)
        say(o, ",\"memory\":{\"arena\":%zu,\"scratch_at\":%zu,\"live\":%zu,\"constants\":%zu}", p->arena_bytes,
            p->scratch_at, p->live_bytes, p->constant_bytes);
    say(o, "}\n");
}

/* ---- the interface ---- */

static wg_status print_program(const wg_program *p, const wg_print_options *options,
                               void (*write)(void *user, const char *text, size_t size), void *user) {
    printer o = {.program = p, .names = options ? options->names : NULL, .write = write, .user = user};
    switch (options ? options->format : WG_PRINT_TEXT) {
    case WG_PRINT_TEXT: print_text(&o); break;
    case WG_PRINT_DOT:
        if (!print_dot(&o))
            return wg__refusal(p->memory);
        break;
    case WG_PRINT_JSON: print_json(&o); break;
    }
    flush(&o);
    return WG_OK;
}

wg_status wg_print(int n, const wg_var *y, const wg_print_options *options,
                   void (*write)(void *user, const char *text, size_t size), void *user, wg_error *error) {
    wg_error own = {0};
    wg_compile_options compile = {.without = options ? options->without : NULL, .run.threads = options ? options->threads : 0};
    const char *after = options && options->after ? options->after : "record";
    wg_program *p = wg__compile(&compile, after, n, y, &own);
    if (!p)
        return wg_error_set(error, own.status, "%s", own.text);
    wg_status status = print_program(p, options, write, user);
    if (status != WG_OK)
        wg__program_no_memory(p, error);
    wg__program_free(p);
    return status;
}

wg_status wg_plan_print(const wg_plan *plan, const wg_print_options *options,
                        void (*write)(void *user, const char *text, size_t size), void *user) {
    return print_program(plan->program, options, write, user);
}
