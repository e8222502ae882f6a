/* foreign.c: the libraries that are open and the functions bound as ops. The only file that loads code. */
#include "foreign.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

typedef struct library {
    const char *name; /* "": this program */
    void *handle;
} library;

/* A function called once, before others of its library. */
typedef struct once {
    void *handle;
    const char *name;
} once;

struct wg_foreign {
    wg_memory *memory;
    wg_foreign_options options;
    wg_arena arena;   /* of everything bound */
    wg_arena lasting; /* of the names of libraries */
    library *libraries;
    int64_t library_count, library_room;
    once *done;
    int64_t done_count, done_room;
    pthread_mutex_t lock; /* of the list: derivatives look into it while more is bound */
    wg_bound **bound;
    int64_t count, room;
};

wg_foreign *wg_foreign_new(wg_memory *memory, const wg_foreign_options *options) {
    wg_foreign *foreign = wg__take0(memory, sizeof *foreign);
    if (!foreign)
        return NULL;
    foreign->memory = foreign->arena.memory = foreign->lasting.memory = memory;
    pthread_mutex_init(&foreign->lock, NULL);
    if (options)
        foreign->options = *options;
    return foreign;
}

void wg_foreign_free(wg_foreign *foreign) {
    if (!foreign)
        return;
    for (int64_t i = 0; i < foreign->library_count; i++)
        dlclose(foreign->libraries[i].handle);
    wg__give(foreign->memory, foreign->libraries);
    wg__give(foreign->memory, foreign->done);
    wg__give(foreign->memory, foreign->bound);
    wg__arena_free(&foreign->arena);
    wg__arena_free(&foreign->lasting);
    pthread_mutex_destroy(&foreign->lock);
    wg__give(foreign->memory, foreign);
}

wg_arena *wg__foreign_arena(wg_foreign *foreign) { return &foreign->arena; }
bool wg__foreign_allows(const wg_foreign *foreign) { return foreign && foreign->options.allow; }

static wg_status no_memory(const wg_foreign *foreign, wg_error *error) {
    return wg_error_set(error, wg__refusal(foreign->memory), "use: no memory");
}

/* ---- libraries ---- */

/* The text of the system's last complaint, without a copy. */
static const char *complaint(void) {
    const char *text = dlerror();
    return text ? text : "the system does not say why";
}

static wg_status open_library(wg_foreign *foreign, const char *name, void **handle, wg_error *error) {
    for (int64_t i = 0; i < foreign->library_count; i++)
        if (strcmp(foreign->libraries[i].name, name) == 0) {
            *handle = foreign->libraries[i].handle;
            return WG_OK;
        }
    char *kept = wg__arena_take(&foreign->lasting, strlen(name) + 1);
    if (!kept || !wg__room(foreign->memory, (void **)&foreign->libraries, foreign->library_count, &foreign->library_room,
                           sizeof *foreign->libraries))
        return no_memory(foreign, error);
    strcpy(kept, name);
    *handle = dlopen(name[0] ? name : NULL, RTLD_NOW | RTLD_LOCAL);
    if (!*handle)
        return wg_error_set(error, WG_NOT_FOUND, "use: %s", complaint());
    foreign->libraries[foreign->library_count++] = (library){kept, *handle};
    return WG_OK;
}

/* A function of a library. ISO C knows no way from an object's address to a function's; POSIX has it through memory. */
static wg_status find_function(void *handle, const char *name, void (**function)(void), wg_error *error) {
    dlerror();
    void *address = dlsym(handle, name);
    if (!address)
        return wg_error_set(error, WG_NOT_FOUND, "use: %s", complaint());
    memcpy(function, &address, sizeof *function);
    return WG_OK;
}

static wg_status call_once(wg_foreign *foreign, void *handle, const char *name, wg_error *error) {
    for (int64_t i = 0; i < foreign->done_count; i++)
        if (foreign->done[i].handle == handle && strcmp(foreign->done[i].name, name) == 0)
            return WG_OK;
    void (*function)(void) = NULL;
    wg_status status = find_function(handle, name, &function, error);
    if (status != WG_OK)
        return status;
    char *kept = wg__arena_take(&foreign->lasting, strlen(name) + 1);
    if (!kept ||
        !wg__room(foreign->memory, (void **)&foreign->done, foreign->done_count, &foreign->done_room, sizeof *foreign->done))
        return no_memory(foreign, error);
    strcpy(kept, name);
    function();
    foreign->done[foreign->done_count++] = (once){handle, kept};
    return WG_OK;
}

/* ---- binding ---- */

/* Function number i of those that are not hidden, or that of a name (i -1); how many there are before it, or in all. */
static const wg_op *look(const wg_foreign *foreign, const char *name, int i, int *count) {
    const wg_op *found = NULL;
    *count = 0;
    if (!foreign)
        return NULL;
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&foreign->lock;
    pthread_mutex_lock(lock);
    for (int64_t k = 0; k < foreign->count && !found; k++) {
        if (foreign->bound[k]->hidden)
            continue;
        if (name ? strcmp(foreign->bound[k]->op.name, name) == 0 : *count == i)
            found = &foreign->bound[k]->op;
        else
            ++*count;
    }
    pthread_mutex_unlock(lock);
    return found;
}

const wg_op *wg_foreign_find(const wg_foreign *foreign, const char *name) { return look(foreign, name, -1, &(int){0}); }
const wg_op *wg_foreign_op(const wg_foreign *foreign, int i) { return look(foreign, NULL, i, &(int){0}); }

int wg_foreign_count(const wg_foreign *foreign) {
    int count;
    look(foreign, NULL, -1, &count);
    return count;
}

int64_t wg__foreign_mark(const wg_foreign *foreign) { return foreign ? foreign->count : 0; }

void wg__foreign_forget(wg_foreign *foreign, int64_t mark) {
    if (!foreign)
        return;
    pthread_mutex_lock(&foreign->lock);
    foreign->count = mark;
    pthread_mutex_unlock(&foreign->lock);
}

static bool list_it(wg_bound *bound) {
    wg_foreign *foreign = bound->foreign;
    pthread_mutex_lock(&foreign->lock);
    void *list = foreign->bound;
    bool good = wg__room(foreign->memory, &list, foreign->count, &foreign->room, sizeof *foreign->bound);
    foreign->bound = list;
    if (good)
        foreign->bound[foreign->count++] = bound;
    pthread_mutex_unlock(&foreign->lock);
    return good;
}

static const char *or_empty(const char *text) { return text ? text : ""; }

/* A binding as one text; NULL when refused. */
static char *texts_of(wg_foreign *foreign, const wg_binding *b) {
    const char *const part[] = {or_empty(b->library), b->prototype, or_empty(b->derivative), or_empty(b->vjp), or_empty(b->after)};
    enum { PARTS = sizeof part / sizeof *part };
    size_t size = 1;
    for (int i = 0; i < PARTS; i++)
        size += strlen(part[i]) + 1;
    char *text = wg__arena_take(&foreign->arena, size), *at = text;
    for (int i = 0; i < PARTS && text; i++)
        at += sprintf(at, "%s\n", part[i]);
    return text;
}

static bool same(const wg_binding *a, const wg_binding *b) {
    return a->function == b->function && a->derivative_function == b->derivative_function && a->vjp_function == b->vjp_function &&
           a->from == b->from && a->to == b->to && a->serial == b->serial && a->nan == b->nan && a->user == b->user;
}

/* The function of that name if it was bound from the same; two cells may well use one. */
static const wg_bound *again(const wg_foreign *foreign, const wg_binding *b, const char *texts) {
    for (int64_t i = 0; i < foreign->count; i++) {
        const wg_bound *old = foreign->bound[i];
        bool named = b->name ? strcmp(old->op.name, b->name) == 0 : old->prototype->name && strcmp(old->op.name, old->prototype->name) == 0;
        if (!old->hidden && named && strcmp(old->texts, texts) == 0 && same(&old->given, b))
            return old;
    }
    return NULL;
}

/* A letter, then letters, digits and _: what an expression can call. */
static bool is_name(const char *name) {
    size_t size = strlen(name);
    if (size == 0 || size > WG_EXPR_NAME || (name[0] >= '0' && name[0] <= '9'))
        return false;
    for (const char *c = name; *c; c++)
        if (!(*c == '_' || (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z')))
            return false;
    return true;
}

static wg_status name_it(wg_bound *bound, const wg_binding *binding, wg_error *error) {
    const char *name = binding->name ? binding->name : bound->prototype->name;
    if (!name)
        return wg_error_set(error, WG_ARGUMENT, "use: '%s' has no name, and none is given", binding->prototype);
    if (!bound->hidden && !is_name(name))
        return wg_error_set(error, WG_ARGUMENT, "use: '%s' is not a name", name);
    if (!bound->hidden && (wg_op_find(name) || wg_foreign_find(bound->foreign, name)))
        return wg_error_set(error, WG_CONFLICT, "use: there is an op %s already", name);
    char *kept = wg__arena_take(&bound->foreign->arena, strlen(name) + 1);
    if (!kept)
        return no_memory(bound->foreign, error);
    bound->op.name = strcpy(kept, name);
    return WG_OK;
}

/* Told before anything is loaded, for loading runs code. Runs of blanks are one. */
static void log_it(const wg_bound *bound, const wg_binding *binding) {
    char text[600], prototype[400];
    const wg_foreign_options *o = &bound->foreign->options;
    size_t used = 0;
    if (!o->log)
        return;
    for (const char *c = binding->prototype; *c && used + 4 < sizeof prototype; c++)
        if (!(strchr(" \t\r\n", *c) && (used == 0 || prototype[used - 1] == ' ')))
            prototype[used++] = strchr("\t\r\n", *c) ? ' ' : *c;
    prototype[used] = 0;
    snprintf(text, sizeof text, "%s: %s as %s%s%s", binding->function ? "the caller" : or_empty(binding->library)[0] ? binding->library : "this program",
             prototype, bound->op.name, binding->after ? " after " : "", or_empty(binding->after));
    o->log(o->user, text);
}

static wg_status find_it(wg_bound *bound, const wg_binding *binding, wg_error *error) {
    void *handle = NULL;
    wg_status status = WG_OK;
    bound->function = binding->function;
    log_it(bound, binding);
    if (!bound->function || binding->after)
        status = open_library(bound->foreign, binding->library ? binding->library : "", &handle, error);
    if (status == WG_OK && binding->after)
        status = call_once(bound->foreign, handle, binding->after, error);
    if (status != WG_OK || bound->function)
        return status;
    if (!bound->prototype->name)
        return wg_error_set(error, WG_ARGUMENT, "use: '%s' has no name to look for", binding->prototype);
    return find_function(handle, bound->prototype->name, &bound->function, error);
}

static wg_status bind(wg_bound *bound, const wg_binding *binding, wg_error *error) {
    wg_foreign *foreign = bound->foreign;
    const wg_source source = {"prototype", binding->prototype, strlen(binding->prototype)};
    wg_status status = wg__prototype_parse(&source, &foreign->arena, &bound->prototype, error);
    if (status == WG_OK)
        status = wg__bound_analyse(bound, &source, &foreign->arena, error);
    if (status == WG_OK)
        status = name_it(bound, binding, error);
    if (status == WG_OK)
        status = find_it(bound, binding, error);
    if (status == WG_OK)
        status = wg__bound_derive(bound, binding, error);
    return status == WG_OK && !list_it(bound) ? no_memory(foreign, error) : status;
}

static const wg_bound *bind_new(wg_foreign *foreign, const wg_binding *binding, bool hidden, wg_error *error) {
    wg_error own = {0};
    char *texts = texts_of(foreign, binding);
    const wg_bound *old = texts && !hidden ? again(foreign, binding, texts) : NULL;
    if (old)
        return old;
    wg_bound *bound = texts ? wg__arena_take(&foreign->arena, sizeof *bound) : NULL;
    if (!bound) {
        no_memory(foreign, error);
        return NULL;
    }
    memset(bound, 0, sizeof *bound);
    bound->foreign = foreign;
    bound->texts = texts;
    bound->hidden = hidden;
    bound->serial = binding->serial;
    bound->user = binding->user;
    bound->nan = binding->nan;
    bound->given = *binding; /* its texts are never read */
    bool given = binding->from != 0 || binding->to != 0;
    bound->op.range[0] = given ? binding->from : -2;
    bound->op.range[1] = given ? binding->to : 2;
    wg_status status = bound->op.range[0] < bound->op.range[1]
                           ? bind(bound, binding, &own)
                           : wg_error_set(&own, WG_RANGE, "use: from %g to %g is no range", binding->from, binding->to);
    if (status != WG_OK) {
        wg_error_set(error, own.status, "%s", own.text);
        return NULL;
    }
    return bound;
}

const wg_bound *wg__bind_hidden(wg_foreign *foreign, const wg_binding *binding, wg_error *error) {
    return bind_new(foreign, binding, true, error);
}

const wg_op *wg_bind(wg_foreign *foreign, const wg_binding *binding, wg_error *error) {
    const int64_t before = wg__foreign_mark(foreign);
    const size_t bytes = foreign->arena.total;
    if (!binding->prototype) {
        wg_error_set(error, WG_ARGUMENT, "use: there is no prototype");
        return NULL;
    }
    const wg_bound *bound = bind_new(foreign, binding, false, error);
    if (!bound)
        wg__foreign_forget(foreign, before);
    if (!bound || wg__foreign_mark(foreign) == before) /* nothing is new */
        wg__arena_rewind(&foreign->arena, bytes);
    return bound ? &bound->op : NULL;
}

/* ---- use lines ---- */

static bool is_word(wg_parser *parser, const char *word) {
    if (!wg__parser_is(parser, word))
        return false;
    wg__parser_next(parser);
    return true;
}

static const char *read_text(wg_parser *parser, const char *what) {
    wg_token token = parser->now;
    return wg__parser_expect(parser, WG_TOKEN_TEXT, what) ? wg__parser_string(parser, &token) : NULL;
}

static double read_number(wg_parser *parser) {
    bool minus = wg__parser_accept(parser, '-');
    wg_token token = parser->now;
    return wg__parser_expect(parser, WG_TOKEN_NUMBER, "a number") ? (minus ? -token.value : token.value) : 0;
}

/* Derivatives, separated by commas, as one text: as they stand, but for the quotes of prototypes. */
static const char *read_derivatives(wg_parser *parser) {
    wg_token all = parser->now;
    const char *end = NULL;
    do {
        bool quoted = parser->now.kind == WG_TOKEN_TEXT;
        end = parser->now.start + parser->now.size + 1;
        if (quoted)
            wg__parser_next(parser);
        else if (!wg__parse_expression(parser))
            return NULL;
        if (!quoted)
            end = parser->now.start - (parser->now.kind == WG_TOKEN_TEXT);
    } while (wg__parser_accept(parser, ','));
    all.start -= all.kind == WG_TOKEN_TEXT;
    all.size = (size_t)(end - all.start);
    char *text = wg__parser_string(parser, &all);
    bool comment = false;
    for (char *c = text; c && *c; c++) {
        comment = *c == '#' || (comment && *c != '\n');
        *c = comment || *c == '"' ? ' ' : *c;
    }
    return text;
}

static void read_with(wg_parser *parser, wg_binding *b) {
    if (is_word(parser, "derivative"))
        b->derivative = read_derivatives(parser);
    else if (is_word(parser, "vjp"))
        b->vjp = read_text(parser, "a prototype");
    else
        wg__parser_unexpected(parser, "'derivative' or 'vjp'");
}

/* One clause; false if none stands here. */
static bool read_clause(wg_parser *parser, wg_binding *b) {
    if (is_word(parser, "as")) {
        wg_token token = parser->now;
        if (wg__parser_expect(parser, WG_TOKEN_NAME, "a name"))
            b->name = wg__parser_string(parser, &token);
    } else if (is_word(parser, "with")) {
        read_with(parser, b);
    } else if (is_word(parser, "on")) {
        b->from = read_number(parser);
        wg__parser_expect(parser, WG_TOKEN_RANGE, "'..'");
        b->to = read_number(parser);
    } else if (is_word(parser, "after")) {
        b->after = read_text(parser, "the name of a function");
    } else if (is_word(parser, "serial")) {
        b->serial = true;
    } else if (is_word(parser, "nan")) {
        b->nan = true;
    } else {
        return false;
    }
    return parser->status == WG_OK;
}

wg_status wg__use_parse(wg_parser *parser, wg_use_line *use) {
    *use = (wg_use_line){.line = parser->now.line, .column = parser->now.column};
    use->binding.library = read_text(parser, "a library in quotes");
    use->binding.prototype = use->binding.library ? read_text(parser, "a prototype in quotes") : NULL;
    while (parser->status == WG_OK && read_clause(parser, &use->binding))
        continue;
    if (parser->status == WG_OK && parser->now.kind != WG_TOKEN_LINE && parser->now.kind != WG_TOKEN_END)
        wg__parser_unexpected(parser, "as, with, on, serial, nan, after or the end of the line");
    return parser->status;
}

const wg_op *wg_bind_text(wg_foreign *foreign, const char *text, wg_error *error) {
    const wg_source source = {"use", text, strlen(text)};
    wg_parser parser;
    wg_use_line use;
    wg_arena arena = {.memory = foreign->memory};
    wg__parser_begin(&parser, &source, &arena, error);
    wg_status status = parser.status == WG_OK ? wg__use_parse(&parser, &use) : parser.status;
    if (status == WG_OK && wg__parser_accept(&parser, WG_TOKEN_LINE) && parser.now.kind != WG_TOKEN_END)
        wg__parser_unexpected(&parser, "the end"), status = parser.status;
    const wg_op *op = status == WG_OK ? wg_bind(foreign, &use.binding, error) : NULL;
    wg__arena_free(&arena);
    return op;
}
