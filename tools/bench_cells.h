/* bench_cells.h: the custom cell of the standard workloads: an LSTM with peepholes (Gers & Schmidhuber 2000) and
 * layer-normalised gates (Ba, Kiros & Hinton 2016). */
#ifndef WG_TOOLS_BENCH_CELLS_H
#define WG_TOOLS_BENCH_CELLS_H

static const char norm_peephole_text[] =
    "cell norm_peephole\n"
    "input x\n"
    "state h, c\n"
    "i  = sigmoid(a_i*layer_norm(W_i @ x + U_i @ h + b_i + p_i*c) + d_i)\n"
    "f  = sigmoid(a_f*layer_norm(W_f @ x + U_f @ h + b_f + p_f*c) + d_f)\n"
    "g  = tanh(a_g*layer_norm(W_g @ x + U_g @ h + b_g) + d_g)\n"
    "c' = f*c + i*g\n"
    "o  = sigmoid(a_o*layer_norm(W_o @ x + U_o @ h + b_o + p_o*c') + d_o)\n"
    "h' = o*tanh(c')\n";

#endif
