/* Fuzzes the cell language: a text is read, or refused with its place; what is read has shapes,
 * sizes and first values. */
#include "fuzz.h"

#include "initialisers.h"

#include <string.h>

enum { LIMIT = 1 << 25 };

long fuzz_accepted;

const fuzz_text fuzz_seeds[] = {
    FUZZ("cell lstm\ncite \"Gers\"\ninput x\nstate h, c\ni = sigmoid(W_i @ x + U_i @ h + b_i)\n"
         "f = sigmoid(W_f @ x + U_f @ h + b_f)\ng = tanh(W_g @ x + U_g @ h + b_g)\n"
         "o = sigmoid(W_o @ x + U_o @ h + b_o)\nc' = f*c + i*g\nh' = o*tanh(c')\ninit b_f = 1\n"),
    FUZZ("cell t\ninput x, t[1]\nsize N = 2*hidden\nconst k = sqrt(N)\nstate h = h0, c[N] = "
         "0.5\nparam V[hidden, N]\n"
         "m = concat(slice(c, 1, 3), t, x)\nc' = k*softmax(A @ m)\nh' = where(less(h, 0), "
         "dropout(V @ c', 0.1), -h**2)\n"
         "init * = 0.1\ninit V = orthogonal(k)\n"),
    FUZZ("cell t\nsize hidden = input\nstate h\nfixed W\nh' = h + dot(p, x)*tanh(W @ -x)\noutput "
         "h\ninit W = spectral(0.9, 0.5)\n"
         "init p = linspace(0, 1)\n"),
    {0}};

const fuzz_text fuzz_words[] = {FUZZ("state "),
                                FUZZ("param "),
                                FUZZ("size "),
                                FUZZ("const "),
                                FUZZ("init "),
                                FUZZ("hidden"),
                                FUZZ("input"),
                                FUZZ("output "),
                                FUZZ(" @ "),
                                FUZZ("**"),
                                FUZZ("' = "),
                                FUZZ("tanh("),
                                FUZZ("concat("),
                                FUZZ("[2*"),
                                FUZZ(".T"),
                                FUZZ("1e308"),
                                FUZZ(" for "),
                                FUZZ("sum(j = 1..3, "),
                                FUZZ("((((((((((((((("),
                                FUZZ("orthogonal"),
                                FUZZ("chrono(3)"),
                                FUZZ("\n"),
                                FUZZ("/0"),
                                {0}};

static void check(wg_lang *lang, wg_memory *memory) {
    char text[200];
    wg_shape shape;
    wg_inits *inits = wg__inits_new(memory, lang, 0, NULL, NULL);
    for (int i = 0; i < lang->params && inits; i++) {
        const wg_symbol *symbol = &lang->symbol[lang->param[i]];
        FUZZ_LAW(symbol->extent.rank > 0 && symbol->reason);
        wg__extent_text(&symbol->extent, text, sizeof text);
        wg__inits_text(inits, i, text, sizeof text);
        if (wg__lang_shape(lang, lang->param[i], 3, 4, &shape, NULL) != WG_OK ||
            shape.count > 10000)
            continue;
        wg_tensor *tensor = wg_tensor_new(memory, WG_F32, shape.rank, shape.dim);
        if (tensor)
            wg__inits_draw(inits, i, 3, 4, 1, 0, tensor, NULL);
        wg_tensor_free(tensor);
    }
    for (int i = 0; i < lang->equations; i++) {
        FUZZ_LAW(wg__lang_extent(lang, lang->equation[i].value));
        wg__ast_text(lang->equation[i].value, text, sizeof text);
    }
    wg__inits_free(inits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    wg_memory *memory = wg_memory_new(NULL, LIMIT);
    wg_error error = {0};
    if (!memory)
        return 0;
    wg_lang *lang = wg__lang_parse(memory, "fuzz", (const char *)data, size, NULL, &error);
    FUZZ_LAW((lang != NULL) == (error.status == WG_OK));
    FUZZ_LAW(lang || strncmp(error.text, "fuzz:", 5) == 0);
    if (lang)
        fuzz_accepted++, check(lang, memory);
    wg__lang_free(lang);
    FUZZ_LAW(wg_memory_used(memory) == 0);
    wg_memory_free(memory);
    return 0;
}
