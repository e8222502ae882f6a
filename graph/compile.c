/* compile.c: the pass manager: the program of the outputs goes through the passes of passes.def, each followed by the
 * validator when asked for, and in builds without optimisation. */
#include "program.h"

#include "effect.h"
#include "gemm.h"

#include <string.h>

const wg_pass wg__passes[] = {
#define PASS(name, needed, doc) {#name, needed, doc, wg__pass_##name},
#include "passes.def"
#undef PASS
};
const int wg__pass_count = WG_LEN(wg__passes);

const char *wg_pass_name(int i) { return i >= 0 && i < wg__pass_count ? wg__passes[i].name : NULL; }
const char *wg_pass_doc(int i) { return i >= 0 && i < wg__pass_count ? wg__passes[i].doc : NULL; }

#ifdef __OPTIMIZE__
enum { ALWAYS_VALIDATE = 0 };
#else
enum { ALWAYS_VALIDATE = 1 };
#endif

enum { MOST_PASSES = 64 };

static int find_pass(const char *name, size_t size) {
    for (int i = 0; i < wg__pass_count; i++)
        if (strlen(wg__passes[i].name) == size && memcmp(wg__passes[i].name, name, size) == 0)
            return i;
    return -1;
}

/* Reads "inplace,simplify" into marks by pass. */
static wg_status read_without(const char *text, bool *left_out, wg_error *error) {
    char quoted[64], name[48];
    while (text && *text) {
        size_t size = strcspn(text, ",");
        int i = find_pass(text, size);
        if (i < 0) {
            size_t kept = size < sizeof name ? size : sizeof name - 1;
            memcpy(name, text, kept);
            name[kept] = 0;
            return wg_error_set(error, WG_NOT_FOUND, "compile: there is no pass %s", wg__quote(name, quoted, sizeof quoted));
        }
        if (wg__passes[i].needed)
            return wg_error_set(error, WG_ARGUMENT, "compile: the pass %s cannot be left out", wg__passes[i].name);
        left_out[i] = true;
        text += size;
        text += *text == ',';
    }
    return WG_OK;
}

wg_status wg__run_passes(wg_program *p, const wg_compile_options *options, const char *after, wg_error *error) {
    bool left_out[MOST_PASSES] = {0}, check = ALWAYS_VALIDATE || (options && options->validate);
    wg_status status = read_without(options ? options->without : NULL, left_out, error);
    const wg_team team = wg__team_of(options ? &options->run : NULL);
    p->threads = team.threads;
    p->far_bytes = options && options->far_bytes ? options->far_bytes : WG_FAR_BYTES;
    if (status == WG_OK && p->far_bytes < 0)
        status = wg_error_set(error, WG_ARGUMENT, "compile: far_bytes is %lld", (long long)p->far_bytes);
    p->parts = wg__parts_allowed(&team);
    if (status == WG_OK && check)
        status = wg__validate(p, error);
    for (int i = 0; i < wg__pass_count && status == WG_OK; i++) {
        if (after && strcmp(p->after, after) == 0)
            break;
        if (!left_out[i])
            status = wg__passes[i].run(p, error);
        p->after = wg__passes[i].name;
        if (status == WG_OK && check)
            status = wg__validate(p, error);
    }
    return status;
}

wg_program *wg__compile(const wg_compile_options *options, const char *after, int n, const wg_var *y, wg_error *error) {
    wg_tape *tape = wg__tape_of(n, y);
    char quoted[64];
    if (after && strcmp(after, "record") != 0 && find_pass(after, strlen(after)) < 0) {
        wg_error_set(error, WG_NOT_FOUND, "compile: there is no pass %s", wg__quote(after, quoted, sizeof quoted));
        return NULL;
    }
    wg_program *p = wg__program_new(tape ? tape->memory : NULL, n, y, error);
    if (p && (wg__check_stores(n, y, error) != WG_OK || wg__run_passes(p, options, after, error) != WG_OK)) {
        wg__program_free(p);
        return NULL;
    }
    return p;
}
