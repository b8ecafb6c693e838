# What becomes PID 1 of a host. Runs in new mount, net, uts, ipc, pid and cgroup namespaces:
#   sh init.sh HOSTNAME ROOT FRONT SCRATCH CHECKOUT [NAME FSTYPE OPTIONS]...   (one triple per cgroup hierarchy)
# FRONT is a second root folder, or empty: the host then has it as /front, sharing what sshd and Slurm share.
# Builds the host's own tree of mounts, makes it the root, says "ready" and becomes tini.
set -eu
hostname=$1 lower=$2 front=$3 scratch=$4 checkout=$5
shift 5

echo "$hostname" >/proc/sys/kernel/hostname
if [ -e /proc/sys/net/ipv6 ]; then # addresses can be used at once
	echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
fi

# The writable layer is a tmpfs that only this mount namespace knows: it goes when the host goes.
mount -t tmpfs -o mode=755 slurm_adopt "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
if [ "$front" ]; then
	mkdir "$scratch/front-upper" "$scratch/front-work" "$scratch/root/front"
	mount -t overlay -o "lowerdir=$front,upperdir=$scratch/front-upper,workdir=$scratch/front-work" overlay "$scratch/root/front"
fi
cd "$scratch/root"

mkdir -p checkout .old
mount --bind "$checkout" checkout
mount -o remount,bind,ro checkout
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp

mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
# The two devices that jobs ask for as --gres=gpu. The numbers are those of `full` and `random`, which nothing in
# a session needs: what the devices cgroup refuses is a number, under every name.
mknod -m 666 dev/fakegpu0 c 1 7
mknod -m 666 dev/fakegpu1 c 1 8

mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
while [ $# -gt 0 ]; do
	mkdir -p "sys/fs/cgroup/$1"
	mount -t "$2" -o "$3" cgroup "sys/fs/cgroup/$1"
	shift 3
done

if [ "$front" ]; then
	for shared in checkout proc sys dev run tmp home root etc/slurm etc/ssh var/log var/spool/slurmd var/spool/slurmctld; do
		mkdir -p $shared front/$shared
		mount --rbind $shared front/$shared
	done
	mount --bind front/etc/pam.d etc/pam.d # those of the sshd that runs
fi

pivot_root . .old
umount -l /.old
rmdir /.old
echo ready
exec /usr/bin/tini -- /usr/bin/sleep infinity >/dev/null 2>&1 </dev/null
