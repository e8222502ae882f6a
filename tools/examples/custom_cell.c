/* custom_cell.c: a recurrent cell written in C: the minimal gated unit (Zhou et al. 2016), its declarations in the cell
 * language, its equations as C calls. Prints the gradient of the last hidden state's sum by the first input.
 *
 *     cc custom_cell.c $(pkg-config --cflags --libs wengert) && ./a.out */
#include <stdio.h>

#include <wengert.h>

#include <wengert/notation.h>

static wg_status step(wg_step *s, void *user) {
    (void)user;
    wg_var x = wg_step_get(s, "x"), h = wg_step_get(s, "h");
    wg_var f = sigmoid(add(add(linear(x, wg_step_get(s, "W_f")), linear(h, wg_step_get(s, "U_f"))), wg_step_get(s, "b_f")));
    wg_var n = tanh(add(linear(x, wg_step_get(s, "W_n")), linear(mul(f, h), wg_step_get(s, "U_n"))));
    return wg_step_set(s, "h", add(mul(sub(1, f), h), mul(f, n)));
}

int main(void) {
    enum { T = 20, B = 2, INPUT = 3, HIDDEN = 8 };
    wg_error error = {0};
    wg_cell *cell = wg_cell_new(NULL,
                                "cell mgu\ninput x\nstate h\n"
                                "param W_f[hidden, input], U_f[hidden, hidden], b_f[hidden]\n"
                                "param W_n[hidden, input], U_n[hidden, hidden]\n",
                                step, NULL, &error);
    wg_params *weights = cell ? wg_cell_draw(NULL, cell, WG_F64, INPUT, HIDDEN, NULL, &error) : NULL;
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *x = wg_tensor_new(NULL, WG_F64, 3, (const int64_t[]){T, B, INPUT}), *out = NULL;
    if (!weights || !tape || !x)
        return fprintf(stderr, "%s\n", error.text), 1;
    wg_tensor_fill(x, 0.5);

    wg_named given[16] = {{"x", wg_leaf(tape, x)}};
    int n = 1;
    for (int i = 0; i < wg_params_count(weights); i++)
        given[n++] = (wg_named){wg_params_name(weights, i), wg_leaf(tape, wg_params_tensor(weights, i))};
    wg_unroll *unroll = wg_unroll_new(tape, cell, INPUT, HIDDEN, n, given, NULL);
    if (!unroll)
        return fprintf(stderr, "%s\n", wg_tape_message(tape)), 1;

    wg_var dx, last = wg_unroll_final(unroll, "h");
    wg_grad(sum(last, 0, NULL, false), 1, &given[0].var, &dx); /* backpropagation through time */
    if (wg_eval(1, &dx, &out, &error) != WG_OK)
        return fprintf(stderr, "%s\n", error.text), 1;
    for (int t = 0; t < T; t++)
        printf("step %2d  dL/dx = % .3e\n", t, wg_tensor_get(out, (int64_t)t * B * INPUT));

    wg_tensor_free(out);
    wg_tensor_free(x);
    wg_unroll_free(unroll);
    wg_tape_free(tape);
    wg_params_free(weights);
    wg_cell_free(cell);
    return 0;
}
