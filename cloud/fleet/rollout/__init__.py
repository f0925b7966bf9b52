"""Roll-outs of a model in waves, judged against a control group: record, decisions, driver."""
