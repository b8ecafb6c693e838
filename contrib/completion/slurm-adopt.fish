# Completion of slurm-adopt for fish: in /usr/share/fish/vendor_completions.d.
_SLURM_ADOPT_COMPLETE=fish_source slurm-adopt | source
