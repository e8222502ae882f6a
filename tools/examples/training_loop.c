/* training_loop.c: an LSTM learns the running mean of its input: one plan is a whole training step. */
#include <stdio.h>
#include <wengert.h>
#include <wengert/notation.h>

int main(void) {
    enum { T = 20, B = 32 };
    wg_error error = {0};
    wg_model_options sizes = {.input = 1, .hidden = 32, .layers = 1, .outputs = 1, .dtype = WG_F32};
    wg_model *model = wg_model_new(NULL, wg_cell_load(NULL, "lstm", 0, NULL, &error), &sizes, NULL, &error);
    if (!model)
        return fprintf(stderr, "%s\n", error.text), 1;
    wg_tensor *x = wg_tensor_new(NULL, WG_F32, 3, (const int64_t[]){T, B, 1}), *y = wg_tensor_copy(NULL, x);
    wg_tape *tape = wg_tape_new(NULL);
    wg_forward pass;
    wg_model_record(model, tape, wg_leaf(tape, x), NULL, NULL, &pass);
    wg_var loss = mse(pass.output, wg_leaf(tape, y)), gradient[16], out[64] = {loss};
    wg_grad(loss, pass.weights, pass.weight, gradient);
    wg_optimiser_options adam = wg_optimiser_defaults(WG_ADAM);
    adam.rate = 1e-2;
    wg_optimiser *optimiser = wg_optimiser_new(NULL, &adam, wg_model_params(model), &error);
    wg_update update;
    wg_optimiser_record(optimiser, loss, pass.weight, gradient, &update);
    for (int i = 0; i < update.n; i++)
        out[1 + i] = update.store[i];
    wg_plan *plan = wg_compile(1 + update.n, out, NULL, &error);
    wg_random random = {.seed = 1};
    for (int step = 0; plan && step < 300; step++) {
        float *in = wg_tensor_write(x), *mean = wg_tensor_write(y), sum[B] = {0};
        for (int i = 0; i < T * B; i++) {
            sum[i % B] += in[i] = (float)wg_random_normal(&random);
            mean[i] = sum[i % B] / (float)(i / B + 1);
        }
        if (wg_run(plan, &error) == WG_OK && step % 50 == 49)
            printf("step %d  loss %.5f\n", step + 1, wg_tensor_get(wg_plan_output(plan, 0), 0));
    }
    if (error.status != WG_OK)
        fprintf(stderr, "%s\n", error.text);
    wg_plan_free(plan), wg_update_free(&update), wg_optimiser_free(optimiser), wg_forward_free(&pass);
    wg_tape_free(tape), wg_tensor_free(x), wg_tensor_free(y), wg_model_free(model);
    return error.status != WG_OK;
}
