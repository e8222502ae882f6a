/* bound.c: what a prototype says of a C function as an op: which parameters are operands, sizes and results. */
#include "foreign.h"

#include <stdio.h>
#include <string.h>

/* ---- what the prototype says ---- */

/* What is known while a prototype is read. */
typedef struct reading {
    wg_bound *b;
    const wg_prototype *p;
    const wg_source *source;
    wg_arena *arena;
    wg_error *error;
    bool named[WG_PROTOTYPE_PARAMETERS]; /* in brackets: a size */
    bool known[WG_PROTOTYPE_PARAMETERS]; /* follows from operands */
    const wg_ast *implied;               /* the length of pointers without brackets; NULL: they point to one number */
} reading;

static wg_status refuse(const reading *r, const wg_slot *slot, wg_status status, const char *format, ...) WG_PRINTF(4, 5);

static wg_status refuse(const reading *r, const wg_slot *slot, wg_status status, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return wg__source_error(r->source, r->error, status, slot->line, slot->column, "%s", text);
}

static wg_status no_memory(const reading *r) { return wg_error_set(r->error, wg__refusal(r->arena->memory), "use: no memory"); }

static int find_parameter(const wg_prototype *p, const char *name) {
    for (int i = 0; i < p->parameters; i++)
        if (p->parameter[i].name && strcmp(p->parameter[i].name, name) == 0)
            return i;
    return -1;
}

/* Says of every name in a length which parameter it is. */
static wg_status resolve_length(reading *r, const wg_slot *slot, wg_ast *length) {
    if (length->kind == WG_AST_NAME) {
        length->symbol = find_parameter(r->p, length->name);
        if (length->symbol < 0 || r->p->parameter[length->symbol].type->kind != WG_CTYPE_INTEGER)
            return refuse(r, slot, WG_NOT_FOUND, "the length %s is no integer among the parameters", length->name);
        r->named[length->symbol] = true;
    }
    wg_status status = WG_OK;
    for (int i = 0; i < length->n && status == WG_OK; i++)
        status = resolve_length(r, slot, length->arg[i]);
    return status;
}

static wg_status resolve_lengths(reading *r) {
    wg_status status = WG_OK;
    for (int i = 0; i < r->p->parameters; i++)
        for (int k = 0; k < r->p->parameter[i].lengths && status == WG_OK; k++)
            if (r->p->parameter[i].length[k])
                status = resolve_length(r, &r->p->parameter[i], (wg_ast *)(uintptr_t)r->p->parameter[i].length[k]);
    return status;
}

static bool is_plain(const wg_slot *slot) {
    return slot->type->kind == WG_CTYPE_POINTER && !slot->fixed && !slot->role && slot->lengths == 0;
}

/* The one integer that is the length of the pointers without brackets. */
static wg_status find_implied(reading *r) {
    const wg_slot *first = NULL;
    int found = -1, count = 0;
    for (int i = r->p->parameters - 1; i >= 0; i--) {
        const wg_slot *s = &r->p->parameter[i];
        if (is_plain(s))
            first = s;
        if (s->type->kind == WG_CTYPE_INTEGER && !s->fixed && !r->named[i])
            found = i, count++;
    }
    if (!first || count == 0)
        return WG_OK;
    if (count > 1)
        return refuse(r, first, WG_ARGUMENT, "which integer is its length? write it in brackets behind the name");
    wg_ast *name = wg__arena_take(r->arena, sizeof *name);
    if (!name)
        return no_memory(r);
    *name = (wg_ast){.kind = WG_AST_NAME, .symbol = found, .name = r->p->parameter[found].name};
    r->implied = name;
    r->named[found] = true;
    return WG_OK;
}

/* The numbers of a struct, one after another. */
static void flatten(const wg_ctype *type, size_t offset, wg_scalar_at *to, int64_t *count) {
    size_t stride = type->ffi->size;
    for (int64_t i = 0; i < type->count; i++, offset += stride)
        if (type->kind == WG_CTYPE_STRUCT)
            for (int k = 0; k < type->fields; k++)
                flatten(type->field[k].type, offset + type->field[k].offset, to, count);
        else
            to[(*count)++] = (wg_scalar_at){type, offset};
}

static bool has_pointer(const wg_ctype *type) {
    bool any = type->kind == WG_CTYPE_POINTER;
    for (int k = 0; k < type->fields && !any; k++)
        any = has_pointer(type->field[k].type);
    return any;
}

/* The type of all of a struct's numbers, 0 if they differ. */
static wg_dtype common_dtype(const wg_scalar_at *scalar, int64_t count) {
    wg_dtype dtype = wg__ctype_dtype(scalar[0].type);
    for (int64_t i = 1; i < count; i++)
        if (wg__ctype_dtype(scalar[i].type) != dtype)
            return 0;
    return dtype;
}

static wg_status read_struct(reading *r, wg_port *port, const wg_ctype *type, bool by_value) {
    if (has_pointer(type))
        return refuse(r, port->slot, WG_UNSUPPORTED, "a struct with pointers in it is no operand");
    wg_scalar_at *scalar = wg__arena_take(r->arena, WG_PROTOTYPE_SCALARS * sizeof *scalar);
    if (!scalar)
        return no_memory(r);
    flatten(type, 0, scalar, &port->tail);
    port->dtype = common_dtype(scalar, port->tail);
    if (by_value) {
        port->scalar = scalar;
        port->dtype = port->dtype ? port->dtype : WG_F64;
        return WG_OK;
    }
    if (!port->dtype || type->ffi->size != (size_t)port->tail * wg_dtype_size(port->dtype))
        return refuse(r, port->slot, WG_UNSUPPORTED, "the numbers of a struct behind a pointer must be of one type");
    return WG_OK;
}

static wg_status read_pointer(reading *r, wg_port *port) {
    const wg_ctype *to = port->slot->type->to;
    char text[100];
    if (to->kind == WG_CTYPE_STRUCT) {
        wg_status status = read_struct(r, port, to, false);
        if (status != WG_OK)
            return status;
    } else if (!(port->dtype = wg__ctype_dtype(to))) {
        return refuse(r, port->slot, WG_UNSUPPORTED, "an array of '%s' is no operand%s", wg__ctype_text(to, text, sizeof text),
                      to->kind == WG_CTYPE_VOID || to->kind == WG_CTYPE_INTEGER ? ": of float, double and int are, or a pointer with '= NULL'" : "");
    }
    port->rank = port->slot->lengths;
    for (int k = 0; k < port->rank; k++)
        if (!(port->length[k] = port->slot->length[k]))
            return refuse(r, port->slot, WG_ARGUMENT, "brackets say a length here: [n]");
    if (port->rank == 0 && r->implied) {
        port->rank = 1;
        port->length[0] = r->implied;
    }
    if (port->rank + (port->tail > 0) > WG_MAX_RANK)
        return refuse(r, port->slot, WG_RANGE, "more than %d axes", WG_MAX_RANK);
    return WG_OK;
}

static wg_status read_port(reading *r, wg_port *port, int parameter, const wg_slot *slot) {
    *port = (wg_port){.name = slot->name, .slot = slot, .parameter = parameter};
    switch (slot->type->kind) {
    case WG_CTYPE_POINTER: return read_pointer(r, port);
    case WG_CTYPE_STRUCT: return read_struct(r, port, slot->type, true);
    default: return WG_OK;
    }
}

static wg_status add_port(reading *r, bool out, int parameter, const wg_slot *slot, wg_argument *argument) {
    int *count = out ? &r->b->outs : &r->b->operands;
    if (*count == WG_PORTS)
        return refuse(r, slot, WG_RANGE, "more than %d operands or results", WG_PORTS);
    if (argument)
        *argument = (wg_argument){out ? WG_ARGUMENT_OUT : WG_ARGUMENT_OPERAND, *count};
    return read_port(r, (out ? r->b->out : r->b->operand) + (*count)++, parameter, slot);
}

static wg_status read_parameters(reading *r) {
    wg_argument *argument = wg__arena_take(r->arena, (size_t)(r->p->parameters + 1) * sizeof *argument);
    wg_status status = argument ? WG_OK : no_memory(r);
    for (int i = 0; i < r->p->parameters && status == WG_OK; i++) {
        const wg_slot *slot = &r->p->parameter[i];
        bool user = slot->role && strcmp(slot->role, "user") == 0 && slot->type->kind == WG_CTYPE_POINTER;
        if (slot->role && !user)
            status = refuse(r, slot, WG_SYNTAX, "roles are for plans as functions, but for `user` of a pointer");
        else if (slot->fixed || user)
            argument[i] = (wg_argument){WG_ARGUMENT_FIXED, 0};
        else if (r->named[i])
            argument[i] = (wg_argument){WG_ARGUMENT_SIZE, 0};
        else
            status = add_port(r, slot->type->kind == WG_CTYPE_POINTER && !slot->type->is_const, i, slot, &argument[i]);
    }
    r->b->argument = argument;
    return status;
}

static wg_status read_result(reading *r) {
    const wg_slot *result = &r->p->result;
    wg_bound *b = r->b;
    if (result->type->kind == WG_CTYPE_POINTER)
        return refuse(r, result, WG_UNSUPPORTED, "a pointer that is returned is no result");
    if (result->type->kind != WG_CTYPE_VOID && b->outs == 0)
        return add_port(r, true, -1, result, NULL);
    b->status = result->type->kind == WG_CTYPE_INTEGER;
    if (result->type->kind != WG_CTYPE_VOID && !b->status)
        return refuse(r, result, WG_UNSUPPORTED, "an op has one result: this returns a value and writes an array");
    if (b->outs == 0)
        return refuse(r, result, WG_ARGUMENT, "it neither returns nor writes anything: what it may write to is not const");
    if (b->outs > 1 && !b->hidden)
        return refuse(r, b->out[1].slot, WG_UNSUPPORTED, "an op has one result: this writes a second array");
    return WG_OK;
}

/* Operands without a name get one. */
static wg_status name_operands(reading *r) {
    static const char *const names[] = {"x", "y", "z", "u", "v", "w"};
    for (int k = 0; k < r->b->operands; k++) {
        wg_port *port = &r->b->operand[k];
        if (port->name)
            continue;
        if (k >= (int)(sizeof names / sizeof *names) || find_parameter(r->p, names[k]) >= 0)
            return refuse(r, port->slot, WG_ARGUMENT, "this parameter needs a name");
        port->name = names[k];
    }
    return WG_OK;
}

/* Every size must follow from an operand. */
static wg_status check_sizes(reading *r) {
    for (int k = 0; k < r->b->operands; k++)
        for (int a = 0; a < r->b->operand[k].rank; a++)
            if (r->b->operand[k].length[a]->kind == WG_AST_NAME)
                r->known[r->b->operand[k].length[a]->symbol] = true;
    for (int i = 0; i < r->p->parameters; i++)
        if (r->named[i] && !r->known[i] && !r->p->parameter[i].fixed)
            return refuse(r, &r->p->parameter[i], WG_ARGUMENT, "no operand says how large this is: give it a value");
    return WG_OK;
}

static wg_status check_outs(reading *r) {
    for (int k = 1; k < r->b->outs; k++)
        if (wg__out_dtype(&r->b->out[k]) != wg__out_dtype(&r->b->out[0]))
            return refuse(r, r->b->out[k].slot, WG_UNSUPPORTED, "all that it writes must be of one type");
    if (r->b->operands == 0)
        return refuse(r, &r->p->result, WG_ARGUMENT, "it has no operand");
    return WG_OK;
}

/* Numbers to a number. */
static bool is_map(const wg_bound *b) {
    bool map = b->operands <= 3 && b->out[0].parameter < 0 && wg__ctype_is_number(b->out[0].slot->type);
    for (int k = 0; k < b->operands && map; k++)
        map = wg__ctype_is_number(b->operand[k].slot->type);
    return map;
}

static bool all_doubles(const wg_bound *b) {
    bool all = b->prototype->result.type->kind == WG_CTYPE_DOUBLE;
    for (int i = 0; i < b->prototype->parameters; i++)
        all = all && b->argument[i].kind == WG_ARGUMENT_OPERAND && b->prototype->parameter[i].type->kind == WG_CTYPE_DOUBLE;
    return all;
}

static wg_status make_op(reading *r) {
    wg_bound *b = r->b;
    bool map = is_map(b);
    b->op.arity = b->operands;
    wg__bound_set_kernel(b, map);
    b->direct = map && all_doubles(b);
    size_t boxes = wg__boxed(r->p->result.type);
    for (int i = 0; i < r->p->parameters; i++)
        boxes += wg__boxed(r->p->parameter[i].type);
    if (boxes > WG_BOXES)
        return refuse(r, &r->p->result, WG_RANGE, "its structs are larger than %d bytes together", WG_BOXES);
    if (ffi_prep_cif(&b->cif, FFI_DEFAULT_ABI, (unsigned)r->p->parameters, r->p->result.type->ffi, r->p->ffi) != FFI_OK)
        return refuse(r, &r->p->result, WG_UNSUPPORTED, "libffi cannot call a function of this type");
    return WG_OK;
}

wg_status wg__bound_analyse(wg_bound *bound, const wg_source *source, wg_arena *arena, wg_error *error) {
    reading r = {.b = bound, .p = bound->prototype, .source = source, .arena = arena, .error = error};
    wg_status (*const steps[])(reading *) = {resolve_lengths, find_implied, read_parameters, read_result, name_operands,
                                             check_sizes,     check_outs,   make_op};
    wg_status status = WG_OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && status == WG_OK; i++)
        status = steps[i](&r);
    return status;
}
