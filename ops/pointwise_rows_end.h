/* pointwise_rows_end.h: undefines what a reading of pointwise_rows.def defined. Included many times. */
#undef MAP1
#undef MAP2
#undef MAP3
