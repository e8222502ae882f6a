/* pointwise_rows_end.h: undefines what a reading of pointwise_rows.def defined. Included many times. */
#undef MAP1
#undef MAP1I
#undef MAP2
#undef MAP2I
#undef MAP3
#undef MAP3I
