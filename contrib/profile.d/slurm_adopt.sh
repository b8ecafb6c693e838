# SLURM_JOB_ID in a session by ssh, for where PAM cannot set it: the front pam_exec. Read by sh,
# bash, ksh and zsh, as docs/how-to/job-id-by-shell.md says. It starts no program, says nothing and
# leaves nothing behind but the variable.
#
# Slurm's own steps have the variable from Slurm, so the extern step alone counts here. A value that
# is there is right, as in the shell of a salloc: only the shell that sshd has started may have one
# from the client (AcceptEnv).
_slurm_adopt_by= _slurm_adopt_job=
if [ -n "${SLURM_JOB_ID-}" ] && [ -r "/proc/$PPID/comm" ]; then
	IFS= read -r _slurm_adopt_by <"/proc/$PPID/comm" || :
fi
case ${SLURM_JOB_ID:+is-set}$_slurm_adopt_by in
'' | is-setsshd | is-setsshd-session)
	if [ -r /proc/self/cgroup ]; then
		# The path of a job's extern step, as slurm/cgroup/paths.py has it; the first step counts.
		while IFS= read -r _slurm_adopt_by; do
			case ${_slurm_adopt_by#*:*:}/ in
			*/job_*/step_extern/* | */s?????????????/step_extern/*)
				_slurm_adopt_by=${_slurm_adopt_by#*:*:}/
				_slurm_adopt_job=${_slurm_adopt_by%%/step_*}
				case ${_slurm_adopt_by#"$_slurm_adopt_job"} in
				/step_extern/*) break ;;
				esac
				_slurm_adopt_job=
				;;
			esac
		done </proc/self/cgroup
	fi
	case ${_slurm_adopt_job##*/} in
	job_*) _slurm_adopt_job=${_slurm_adopt_job##*/job_} ;;
	s?????????????)
		# Slurm 26.05: the name is no job id. The title of the job's stepd has it.
		_slurm_adopt_by=/sys/fs/cgroup$_slurm_adopt_job/step_extern/slurm/cgroup.procs
		_slurm_adopt_job=
		if [ -r "$_slurm_adopt_by" ]; then
			while IFS= read -r _slurm_adopt_by; do
				[ -r "/proc/$_slurm_adopt_by/cmdline" ] || continue
				IFS= read -r _slurm_adopt_job <"/proc/$_slurm_adopt_by/cmdline" || :
				case $_slurm_adopt_job in
				'slurmstepd: ['*'.extern]'*)
					_slurm_adopt_job=${_slurm_adopt_job#*'['}
					_slurm_adopt_job=${_slurm_adopt_job%%.extern*}
					break
					;;
				esac
				_slurm_adopt_job=
			done <"$_slurm_adopt_by"
		fi
		;;
	*) _slurm_adopt_job= ;;
	esac
	case $_slurm_adopt_job in
	'' | 0* | *[!0-9]*) ;;
	*) export SLURM_JOB_ID="$_slurm_adopt_job" ;;
	esac
	;;
esac
unset _slurm_adopt_by _slurm_adopt_job
