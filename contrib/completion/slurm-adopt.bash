# Completion of slurm-adopt for bash: as /usr/share/bash-completion/completions/slurm-adopt.
eval "$(_SLURM_ADOPT_COMPLETE=bash_source slurm-adopt)"
