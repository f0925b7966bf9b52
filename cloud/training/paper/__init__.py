"""The paper's experiments: networks by regime, sweeps over fractions, figures."""
