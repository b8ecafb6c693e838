# SLURM_JOB_ID in a session by ssh, as slurm_adopt.sh beside this file has it, for csh and tcsh: see
# docs/how-to/job-id-by-shell.md. They cannot read a file themselves, so sh is started once.
if ( ! $?SLURM_JOB_ID && -r /etc/profile.d/slurm_adopt.sh ) then
	set _slurm_adopt = `/bin/sh -c '. /etc/profile.d/slurm_adopt.sh; echo $SLURM_JOB_ID'`
	if ( $#_slurm_adopt == 1 ) then
		setenv SLURM_JOB_ID "$_slurm_adopt[1]"
	endif
	unset _slurm_adopt
endif
