/* check_ops.c: the checks that follow from an op's record: its examples, and for pointwise ops its range on every
 * pattern of broadcasting. Draws the points; check.c compares. */
#include "check.h"
#include "foreign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_INPUTS = 16, WORDS = 256, PATTERNS = 14 };

/* The shapes of the operands of pointwise ops, by arity. */
static const char *const patterns[3][PATTERNS] = {
    {"()", "1", "3", "2,3", "2,3,4", "0", "2,0,3", "1,2,1,1,2,1,1,2"},
    {"2,3 2,3", "() ()", "2,3 3", "3 2,3", "2,3 ()", "() 2,3", "2,1 1,3", "1 2,1", "2,3 c", "c 2,3", "0,3 3",
     "2,1 0", "2,1,2,1,1,1,1,2 2,1,1,2,1,1"},
    {"2,3 2,3 2,3", "() () ()", "2,3 3 ()", "() 2,1 1,3", "2,1 1,3 2,3", "3 c c", "c 3 c", "c c 3", "c 2,3 3", "0,3 3 ()",
     "2,1 () 0"},
};

const char *wg__example_word(const char *at, wg_shape *shape, int64_t *top) {
    int64_t dim[WG_MAX_RANK];
    int rank = 0;
    while (*at == ' ')
        at++;
    if (!*at)
        return NULL;
    *top = *at == 'c' ? -1 : 0;
    if (*at == 'i') {
        char *end;
        *top = strtoll(at + 1, &end, 10);
        at = *end == ':' ? end + 1 : end;
    }
    while (*at && *at != ' ') {
        char *end = (char *)(uintptr_t)at;
        if (*at >= '0' && *at <= '9' && rank < WG_MAX_RANK)
            dim[rank++] = strtoll(at, &end, 10);
        at = end > at ? end : at + 1;
    }
    wg__shape_set(shape, rank, dim);
    return at;
}

/* An op at an example: what its graph needs to know. */
typedef struct specimen {
    const wg_op *op;
    const wg_example *example; /* NULL: pointwise or a C function, from the range */
    int n;                     /* operands of the op, bare constants included */
    bool bare[MOST_INPUTS];
    double value[MOST_INPUTS]; /* of a bare constant */
} specimen;

static wg_var record_specimen(void *user, const wg_var *x) {
    const specimen *s = user;
    wg_var in[MOST_INPUTS];
    if (s->example)
        return s->example->call(x);
    for (int k = 0, given = 0; k < s->n; k++)
        in[k] = s->bare[k] ? wg_c(s->value[k]) : x[given++];
    return wg_call_op(s->op, s->n, in);
}

/* A draw in [low, high], an f32 number. */
static double draw(wg_random *random, double low, double high) {
    return (float)(low + (high - low) * wg_random_uniform(random));
}

static bool takes_whole(const wg_op *op, int k) {
    const wg_bound *b = wg__bound_of(op);
    return b && k < b->operands && wg__port_is_whole(&b->operand[k]);
}

/* Makes the inputs the words ask for; returns how many tensors, or -1 when refused. */
static int make_inputs(wg_check *check, specimen *s, const char *words, double low, double high, wg_tensor **x) {
    wg_random random = {.seed = check->seed, .stream = 0};
    wg_shape shape;
    int64_t top;
    int made = 0;
    for (const char *at = s->op->name; *at; at++) /* a stream for each op and example */
        random.stream = random.stream * 31 + (unsigned char)*at;
    for (const char *at = words; *at; at++)
        random.stream = random.stream * 31 + (unsigned char)*at;
    random.stream = random.stream * 64 + 63; /* apart from the directions' */
    for (s->n = 0; s->n < MOST_INPUTS && (words = wg__example_word(words, &shape, &top)); s->n++) {
        s->bare[s->n] = top < 0;
        if (top < 0) {
            s->value[s->n] = draw(&random, low, high);
            if (takes_whole(s->op, s->n))
                s->value[s->n] = (double)wg__to_i32(s->value[s->n]);
            continue;
        }
        wg_tensor *tensor = x[made] = wg_tensor_new(check->memory, top ? WG_I32 : WG_F64, shape.rank, shape.dim);
        if (!tensor)
            return -1;
        made++;
        for (int64_t i = 0; i < wg_tensor_shape(tensor)->count; i++)
            wg_tensor_set(tensor, i, top ? (double)wg_random_below(&random, (uint64_t)top) : draw(&random, low, high));
    }
    return made;
}

/* Checks one list of words. */
static wg_status check_words(wg_check *check, const wg_op *op, const wg_example *example, const char *words,
                             bool optional) {
    specimen s = {.op = op, .example = example};
    wg_tensor *x[MOST_INPUTS] = {0};
    double low = example ? example->low : op->range[0], high = example ? example->high : op->range[1];
    int n = make_inputs(check, &s, words, low, high, x);
    wg_check_case at = {op->name, words, record_specimen, &s, n, x, optional};
    wg_status status = n < 0 ? wg__refusal(check->memory) : wg__check_graph(check, &at);
    for (int k = 0; k < MOST_INPUTS; k++)
        wg_tensor_free(x[k]);
    return status;
}

/* The words with every size `from` made `to`; false if there is none. */
static bool resized(const char *words, int64_t from, int64_t to, char *out) {
    size_t used = 0;
    bool any = false;
    while (*words && used + 24 < WORDS) {
        bool limit = *words == 'i';
        char *end = (char *)(uintptr_t)words;
        if (limit || *words < '0' || *words > '9') {
            out[used++] = *words++;
            if (limit) /* the bound of integers is no size */
                while (*words >= '0' && *words <= '9' && used + 24 < WORDS)
                    out[used++] = *words++;
            continue;
        }
        int64_t size = strtoll(words, &end, 10);
        any = any || size == from;
        used += (size_t)snprintf(out + used, WORDS - used, "%lld", (long long)(size == from ? to : size));
        words = end;
    }
    out[used] = 0;
    return any;
}

/* An example, and it with each of its sizes made 1 and 0, where the op allows that. */
static wg_status check_example(wg_check *check, const wg_op *op, const wg_example *example) {
    char words[WORDS];
    wg_status status = check_words(check, op, example, example->inputs, false);
    for (int64_t size = 1; size < 10 && status == WG_OK; size++)
        for (int64_t to = 0; to < 2 && status == WG_OK; to++)
            if (size != to && resized(example->inputs, size, to, words))
                status = check_words(check, op, example, words, true);
    return status;
}

/* ---- i32 ---- */

/* The op on whole numbers, as i32 and as f64. */
static wg_status check_i32(wg_check *check, const wg_op *op) {
    wg_random random = {.seed = check->seed, .stream = 61};
    wg_tape *tape = wg_tape_new(check->memory);
    wg_tensor *made = NULL, *value[2] = {0};
    wg_var in[2][3], y[2];
    wg_check_case at = {.name = op->name, .example = "7 of i32"};
    for (int k = 0; tape && k < op->arity; k++)
        for (int type = 0; type < 2; type++) {
            made = made && type ? made : wg_tensor_new(check->memory, WG_I32, 1, (const int64_t[]){7});
            wg_tensor *tensor = type ? wg_tensor_new(check->memory, WG_F64, 1, (const int64_t[]){7}) : made;
            for (int64_t i = 0; made && tensor && i < 7; i++)
                wg_tensor_set(tensor, i, type ? wg_tensor_get(made, i) : 1 + (double)wg_random_below(&random, 4));
            in[type][k] = wg_leaf(tape, tensor);
            if (type) {
                wg_tensor_free(tensor);
                wg_tensor_free(made);
                made = NULL;
            }
        }
    wg_status status = tape ? tape->status : wg__refusal(check->memory);
    wg_error error = {0};
    if (status == WG_OK) {
        for (int type = 0; type < 2; type++)
            y[type] = wg__pointwise(op, op->arity, in[type]);
        status = wg_eval(2, y, value, &error);
        if (status == WG_OK)
            for (int64_t i = 0; i < 7; i++)
                if (wg_tensor_get(value[0], i) != wg_tensor_get(value[1], i))
                    wg_error_set(&error, WG_DERIVATIVE, "element (%lld): %g in i32, %g in f64", (long long)i,
                                 wg_tensor_get(value[0], i), wg_tensor_get(value[1], i));
        if (status != WG_MEMORY && status != WG_LIMIT)
            wg__check_line(check, &at, WG_CHECK_I32, error.status == WG_OK ? 0 : 1, error.status, error.text);
    }
    wg_tensor_free(value[0]);
    wg_tensor_free(value[1]);
    wg_tape_free(tape);
    return status == WG_MEMORY || status == WG_LIMIT ? status : WG_OK;
}

/* What can be checked of a C function: a derivative that is one too cannot be differentiated again, nor a vector-Jacobian product be
 * turned round. */
static unsigned kinds_of(const wg_check *check, const wg_bound *b) {
    unsigned kinds = check->kinds ? check->kinds : (1u << WG_CHECK_KINDS) - 1;
    bool opaque = b->vjp;
    for (int k = 0; k < b->operands; k++)
        opaque = opaque || b->slope[k];
    if (opaque)
        kinds &= ~(1u << WG_CHECK_SECOND | 1u << WG_CHECK_MIXED);
    if (b->vjp)
        kinds &= ~(1u << WG_CHECK_FORWARD);
    return kinds;
}

/* Of float: differences of what it computes are as rough as that. */
static bool is_single(const wg_bound *b) {
    bool single = false;
    for (int i = -1; i < b->prototype->parameters && !single; i++) {
        const wg_ctype *type = i < 0 ? b->prototype->result.type : b->prototype->parameter[i].type;
        single = (type->kind == WG_CTYPE_POINTER ? type->to : type)->kind == WG_CTYPE_FLOAT;
    }
    return single;
}

/* A C function of arrays: of one row, and of rows that broadcast. */
static wg_status check_bound(wg_check *check, const wg_bound *b) {
    char words[WORDS];
    wg_status status = WG_OK;
    for (int rows = 0; rows < 3 && status == WG_OK; rows++)
        status = check_words(check, &b->op, NULL, wg__bound_words(b, rows, words, sizeof words), false);
    return status;
}

static wg_status check_op(wg_check *check, const wg_op *op) {
    wg_status status = WG_OK;
    bool any = false;
    bool pointwise = op->kind == WG_POINTWISE && op->arity >= 1 && op->arity <= 3 && op->range[0] < op->range[1];
    for (int k = 0; k < op->arity && pointwise; k++)
        pointwise = !takes_whole(op, k);
    for (const wg_example *e = op->examples; e && e->call && status == WG_OK; e++, any = true)
        status = check_example(check, op, e);
    for (int k = 0; pointwise && k < PATTERNS && patterns[op->arity - 1][k] && status == WG_OK; k++, any = true)
        status = check_words(check, op, NULL, patterns[op->arity - 1][k], false);
    bool integers = !check->kinds || (check->kinds >> WG_CHECK_I32 & 1);
    if (pointwise && integers && (op->traits & WG_TAKES_I32) && op->map[2] && status == WG_OK)
        status = check_i32(check, op);
    if (!any && status == WG_OK && wg__bound_of(op)) {
        status = check_bound(check, wg__bound_of(op));
        any = true;
    }
    if (!any && status == WG_OK) {
        wg_check_case at = {.name = op->name, .example = ""};
        wg__check_line(check, &at, WG_CHECK_RECORD, 0, WG_NOT_FOUND, "the op's record has no example and no range");
    }
    return status;
}

wg_status wg__check_op(wg_check *check, const wg_op *op) {
    const wg_bound *b = wg__bound_of(op);
    wg_check own = *check;
    if (b) {
        own.kinds = kinds_of(check, b);
        own.rough = is_single(b);
    }
    wg_status status = check_op(&own, op);
    check->done = own.done;
    check->failed = own.failed;
    return status;
}
