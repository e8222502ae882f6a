/* record.c: one step of a cell, from its syntax tree to the tape. Reads the checked tree only; what a function means is
 * said here, once. Vectors are (B,n), or (n) if they depend on no batch. */
#include "cell.h"

#include <math.h>
#include <string.h>

static wg_var value_of(wg_step *step, const wg_ast *ast);

static wg_var failed(wg_step *step, wg_status status, const char *what, const char *text) {
    return wg__fail(step->tape, status, what, "%s", text);
}

static wg_var refused(wg_step *step, const char *what) {
    wg_status status = wg__refusal(step->tape->memory);
    return failed(step, status, what, wg_status_sentence(status));
}

double wg__step_number(wg_step *step, const wg_ast *ast) {
    double number = 0;
    wg_error error = {0};
    if (ast->kind == WG_AST_NUMBER)
        return ast->value;
    wg_status status = wg__lang_number(step->cell->lang, &step->cell->lang->source, ast, step->input, step->hidden,
                                       &number, &error);
    if (status != WG_OK)
        failed(step, status, wg_cell_name(step->cell), error.text);
    return number;
}

static int64_t length_of(wg_step *step, const wg_ast *ast) { return (int64_t)wg__step_number(step, ast); }

/* A bare constant made an array of one element, where an op needs one. */
static wg_var solid(wg_step *step, wg_var x) {
    return wg__is_bare(x) ? wg_full(step->tape, step->dtype, 1, (const int64_t[]){1}, x.as.value) : x;
}

/* A vector with its batch axis: (n) becomes (B,n). */
static wg_var batched(wg_step *step, wg_var x) {
    x = solid(step, x);
    return wg_rank(x) == 1 ? wg_broadcast_to(x, 2, (const int64_t[]){step->batch, wg_dim(x, 0)}) : x;
}

enum { FEW = 64 };

static wg_var concatenation(wg_step *step, const wg_ast *ast) {
    wg_var few[FEW], *part = few, y = {0};
    bool rows = false;
    if (ast->n > FEW && !(part = wg__take(step->tape->memory, (size_t)ast->n * sizeof *part)))
        return refused(step, ast->name);
    part[0] = (wg_var){0};
    for (int i = 0; i < ast->n; i++) {
        part[i] = solid(step, value_of(step, ast->arg[i]));
        rows = rows || wg_rank(part[i]) == 2;
    }
    for (int i = 0; i < ast->n && rows; i++)
        part[i] = batched(step, part[i]);
    y = wg_concat(ast->n, part, -1);
    if (part != few)
        wg__give(step->tape->memory, part);
    return y;
}

/* index(n): 0 … n-1, a leaf that all steps share. */
static wg_var counting(wg_step *step, int64_t n) {
    wg_memory *memory = step->tape->memory;
    for (int64_t i = 0; i < step->indices; i++)
        if (wg_dim(step->index[i], 0) == n)
            return step->index[i];
    void *block = step->index;
    bool room = wg__room(memory, &block, step->indices, &step->index_room, sizeof *step->index);
    step->index = block;
    wg_tensor *tensor = room ? wg_tensor_new(memory, step->dtype, 1, &n) : NULL;
    if (!tensor)
        return refused(step, "index");
    for (int64_t i = 0; i < n; i++)
        wg_tensor_set(tensor, i, (double)i);
    wg_var leaf = wg_leaf(step->tape, tensor);
    wg_tensor_free(tensor);
    step->index[step->indices++] = leaf;
    return leaf;
}

static wg_var random_key(wg_step *step, const char *name) {
    return step->key.tape ? step->key : failed(step, WG_ARGUMENT, name, "training draws, but the unroll was given no key");
}

/* A probability, below 1 for dropout; checked also where nothing is drawn, so that a mistake shows at once. */
static bool likely(wg_step *step, const char *name, double p, bool one) {
    if (p >= 0 && (p < 1 || (one && p == 1)))
        return true;
    wg__fail(step->tape, WG_RANGE, name, "p is %g, not a probability in [0,1%c", p, one ? ']' : ')');
    return false;
}

static wg_var dropped(wg_step *step, wg_var v, double p) {
    if (!likely(step, "dropout", p, false))
        return (wg_var){0};
    if (!step->training || p == 0)
        return v;
    return wg_dropout(batched(step, v), p, random_key(step, "dropout"));
}

static wg_var coins(wg_step *step, double p, int64_t n) {
    const int64_t dim[2] = {step->batch, n};
    if (!likely(step, "bernoulli", p, true))
        return (wg_var){0};
    if (!step->training)
        return wg_full(step->tape, step->dtype, 2, dim, p);
    return wg_bernoulli(random_key(step, "bernoulli"), step->dtype, 2, dim, p);
}

static wg_var pointwise(wg_step *step, const wg_op *op, const wg_ast *ast) {
    const int64_t one = 1;
    wg_var operand[3];
    bool bare = true;
    for (int i = 0; i < ast->n; i++) {
        operand[i] = value_of(step, ast->arg[i]);
        bare = bare && wg__is_bare(operand[i]);
    }
    if (bare && op->map[WG_F64 - WG_F32]) /* an op of numbers is a number, worked out here and not in every step */
        return wg__pointwise_number(op, ast->n, operand);
    if (bare)
        operand[0] = wg_full(step->tape, step->dtype, 1, &one, operand[0].as.value);
    return wg__pointwise(op, ast->n, operand);
}

/* A C function of arrays. What is a number to it is a vector of length 1 here. */
static wg_var foreign(wg_step *step, const wg_op *op, const wg_ast *ast) {
    const wg_bound *b = wg__bound_of(op);
    wg_var operand[WG_PORTS];
    for (int k = 0; k < ast->n; k++) {
        wg_var v = operand[k] = value_of(step, ast->arg[k]);
        bool number = wg__port_rank(&b->operand[k]) == 0;
        if (!number)
            operand[k] = batched(step, solid(step, v));
        else if (wg__on_tape(v) && wg_dim(v, -1) == 1)
            operand[k] = wg_reshape(v, wg_rank(v) - 1, wg_var_shape(v)->dim);
        else if (wg__on_tape(v))
            return failed(step, WG_SHAPE, ast->name, "an operand that is a number to the function is longer than 1");
    }
    wg_var y = wg_call_op(op, ast->n, operand);
    if (!wg__on_tape(y) || wg__port_rank(&b->out[0]) > 0)
        return y;
    const int64_t dim[2] = {wg_rank(y) ? wg_dim(y, 0) : 1, 1};
    return wg_reshape(y, 2, dim);
}

static wg_var unsupported(wg_step *step, const char *what) {
    return failed(step, WG_UNSUPPORTED, what, "this is not supported in cells yet");
}

static wg_var first_value(wg_step *step, const wg_ast *ast) { return solid(step, value_of(step, ast->arg[0])); }

static wg_var call(wg_step *step, const wg_ast *ast) {
    const wg_op *op = wg__function_op(step->cell->lang->foreign, ast->symbol);
    if (op && op->kind != WG_POINTWISE && wg__bound_of(op))
        return foreign(step, op, ast);
    if (op)
        return op->kind == WG_POINTWISE && op->arity == ast->n ? pointwise(step, op, ast) : unsupported(step, ast->name);
    const wg_cell_function *row = wg__function_row(ast->symbol);
    wg_var v;
    switch (row->kind) {
    case WG_FUNCTION_SAME:
    case WG_FUNCTION_REDUCE: return row->build(first_value(step, ast));
    case WG_FUNCTION_CONCAT: return concatenation(step, ast);
    case WG_FUNCTION_DOT:
        v = wg_mul(first_value(step, ast), value_of(step, ast->arg[1]));
        return wg_sum(v, 1, (const int[]){-1}, true);
    case WG_FUNCTION_SLICE:
        v = first_value(step, ast);
        return wg_slice(v, -1, length_of(step, ast->arg[1]), length_of(step, ast->arg[2]));
    case WG_FUNCTION_DROPOUT:
        return dropped(step, value_of(step, ast->arg[0]), wg__step_number(step, ast->arg[1]));
    case WG_FUNCTION_BERNOULLI:
        return coins(step, wg__step_number(step, ast->arg[0]), length_of(step, ast->arg[1]));
    case WG_FUNCTION_INDEX: return counting(step, length_of(step, ast->arg[0]));
    case WG_FUNCTION_POINTWISE:
    case WG_FUNCTION_FOREIGN:
    case WG_FUNCTION_LATER: break;
    }
    return unsupported(step, ast->name);
}

static wg_var named(wg_step *step, const wg_ast *ast) {
    wg_symbol_kind kind = step->cell->lang->symbol[ast->symbol].kind;
    if (kind != WG_SYMBOL_SIZE && kind != WG_SYMBOL_CONST)
        return step->now[ast->symbol];
    double *constant = &step->constant[ast->symbol];
    if (isnan(*constant))
        *constant = wg__step_number(step, ast);
    return wg_c(*constant);
}

static wg_var product(wg_step *step, const wg_ast *ast) {
    return wg_linear(solid(step, value_of(step, ast->arg[1])), value_of(step, ast->arg[0]));
}

static bool is_written_alike(const wg_ast *a, const wg_ast *b) {
    bool alike = a->kind == b->kind && a->n == b->n && a->symbol == b->symbol && !(a->value < b->value || a->value > b->value) &&
                 !a->name == !b->name && (!a->name || strcmp(a->name, b->name) == 0);
    for (int k = 0; k < a->n && alike; k++)
        alike = is_written_alike(a->arg[k], b->arg[k]);
    return alike;
}

/* A product that stands within an equation: as often as it is written with the same operands, it is one, and so are those that its
 * derivatives need. Not where another's operands only happen to be the same, as states are before the first step: all steps are alike. */
static wg_var product_within(wg_step *step, const wg_ast *ast) {
    wg_var x = solid(step, value_of(step, ast->arg[1])), matrix = value_of(step, ast->arg[0]);
    for (int64_t k = wg__min(step->products, WG_KNOWN_PRODUCTS); k-- > 0 && wg__on_tape(x) && wg__on_tape(matrix);) {
        const wg_step_product *p = &step->product[k];
        if (p->x == x.as.id && p->matrix == matrix.as.id && is_written_alike(p->ast, ast))
            return wg__var(step->tape, p->y);
    }
    wg_var y = wg_linear(x, matrix);
    if (wg__on_tape(y))
        step->product[step->products++ % WG_KNOWN_PRODUCTS] = (wg_step_product){ast, (uint32_t)x.as.id, (uint32_t)matrix.as.id, (uint32_t)y.as.id};
    return y;
}

/* What an equation gives a name to is apart, for the derivative by that name is its own: a product of which nothing else was made (dropout
 * that does not drop gives its operand) is made again. */
static wg_var value_of_equation(wg_step *step, const wg_ast *ast) {
    if (ast->kind == WG_AST_MATMUL)
        return product(step, ast);
    wg_var value = value_of(step, ast);
    for (int64_t k = wg__min(step->products, WG_KNOWN_PRODUCTS); k-- > 0 && wg__on_tape(value);) {
        const wg_step_product *p = &step->product[k];
        if (p->y == value.as.id)
            return wg_linear(wg__var(step->tape, p->x), wg__var(step->tape, p->matrix));
    }
    return value;
}

static wg_var value_of(wg_step *step, const wg_ast *ast) {
    switch (ast->kind) {
    case WG_AST_NUMBER: return wg_c(ast->value);
    case WG_AST_NAME: return named(step, ast);
    case WG_AST_NEXT: return step->next[ast->arg[0]->symbol];
    case WG_AST_MATMUL: return product_within(step, ast);
    case WG_AST_CALL: return call(step, ast);
    default: break;
    }
    return ast->symbol < 0 ? unsupported(step, wg__ast_spelling(ast->kind)) : pointwise(step, wg__function_op(NULL, ast->symbol), ast);
}

/* A state's next value always has the state's own shape (B,n). */
static wg_var settled(wg_step *step, int symbol, wg_var value) {
    const int64_t dim[2] = {step->batch, step->shape[symbol].dim[0]};
    value = solid(step, value);
    if (!wg__on_tape(value)) /* the tape says why */
        return value;
    const wg_shape *shape = wg__of(value)->shape;
    if (shape->rank == 2 && shape->dim[0] == dim[0] && shape->dim[1] == dim[1])
        return value;
    return wg_broadcast_to(value, 2, dim);
}

static wg_status record_equations(wg_step *step) {
    const wg_lang *lang = step->cell->lang;
    step->products = 0;
    for (int64_t e = 0; e < lang->equations && step->tape->status == WG_OK; e++) {
        const wg_equation *equation = &lang->equation[e];
        uint32_t before = wg__origin_set(step->tape, step->origin[e]);
        wg_var value = value_of_equation(step, equation->value);
        if (equation->next)
            step->next[equation->symbol] = settled(step, equation->symbol, value);
        else
            step->now[equation->symbol] = value;
        wg__origin_set(step->tape, before);
    }
    return step->tape->status;
}

static wg_status record_in_c(wg_step *step) {
    const wg_cell *cell = step->cell;
    for (int i = 0; i < cell->lang->states; i++) /* nothing is left of the step before */
        step->next[cell->lang->state[i]] = (wg_var){0};
    wg_status status = cell->step(step, cell->user);
    if (status != WG_OK)
        wg__fail(step->tape, status, wg_cell_name(cell), "its step function failed at step %lld",
                 (long long)step->number);
    for (int i = 0; i < cell->lang->states && step->tape->status == WG_OK; i++)
        if (!step->next[cell->lang->state[i]].tape)
            wg__fail(step->tape, WG_ARGUMENT, wg_cell_name(cell), "step %lld gave state %s no next value",
                     (long long)step->number, wg_cell_state(cell, i));
    return step->tape->status;
}

wg_status wg__step_record(wg_step *step) {
    return step->cell->step ? record_in_c(step) : record_equations(step);
}

/* ---- what a C step may call ---- */

wg_tape *wg_step_tape(const wg_step *step) { return step->tape; }

static bool is_input_like(wg_symbol_kind kind) {
    return kind == WG_SYMBOL_INPUT || kind == WG_SYMBOL_STATE || kind == WG_SYMBOL_PARAM;
}

wg_var wg_step_get(wg_step *step, const char *name) {
    int symbol = wg__lang_find(step->cell->lang, name);
    if (symbol >= 0 && is_input_like(step->cell->lang->symbol[symbol].kind))
        return step->now[symbol];
    return wg__fail(step->tape, WG_NOT_FOUND, wg_cell_name(step->cell), "it declares no input, state or parameter %s",
                    name);
}

/* What a step may give: a number, or a float var of its own tape. */
static bool givable(wg_step *step, const char *name, wg_var value) {
    if (wg__is_bare(value))
        return true;
    if (!wg__on_tape(value) || value.tape != step->tape)
        wg__fail(step->tape, WG_ARGUMENT, wg_cell_name(step->cell),
                 "what step %lld gave for %s is not a valid var of its tape", (long long)step->number, name);
    else if (wg_var_dtype(value) != step->dtype)
        wg__fail(step->tape, WG_DTYPE, wg_cell_name(step->cell), "what step %lld gave for %s is %s, not %s",
                 (long long)step->number, name, wg_dtype_name(wg_var_dtype(value)), wg_dtype_name(step->dtype));
    return step->tape->status == WG_OK;
}

/* The value under this name, a new one if there is none; NULL when refused. */
static wg_extra *extra_named(wg_step *step, const char *name) {
    wg_memory *memory = step->tape->memory;
    for (int64_t i = 0; i < step->extras; i++)
        if (strcmp(step->extra[i].name, name) == 0)
            return &step->extra[i];
    void *block = step->extra;
    bool room = wg__room(memory, &block, step->extras, &step->extra_room, sizeof *step->extra);
    step->extra = block;
    if (!room)
        return NULL;
    wg_extra *extra = &step->extra[step->extras];
    *extra = (wg_extra){wg__strdup(memory, name),
                        wg__take0(memory, wg__size((size_t)step->steps, sizeof *extra->id, 0))};
    if (!extra->name || !extra->id) {
        wg__give(memory, extra->name);
        wg__give(memory, extra->id);
        return NULL;
    }
    step->extras++;
    return extra;
}

wg_status wg_step_set(wg_step *step, const char *name, wg_var value) {
    int symbol = wg__lang_find(step->cell->lang, name);
    if (step->tape->status != WG_OK || !givable(step, name, value))
        return step->tape->status;
    if (symbol >= 0) {
        if (step->cell->lang->symbol[symbol].kind != WG_SYMBOL_STATE)
            wg__fail(step->tape, WG_CONFLICT, wg_cell_name(step->cell), "%s is declared and not a state", name);
        else
            step->next[symbol] = settled(step, symbol, value);
        return step->tape->status;
    }
    wg_extra *extra = extra_named(step, name);
    if (extra)
        extra->id[step->number - 1] = (uint32_t)solid(step, value).as.id;
    else
        refused(step, wg_cell_name(step->cell));
    return step->tape->status;
}
