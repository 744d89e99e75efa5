// What a container may do, set up as a container runtime does it: a mount namespace, a read-only
// root, a user, capabilities, no new privileges, a cgroup.
//
// The agent starts itself as `nodeagent container JSON` in the Pod's network; that process confines
// itself and becomes the container's program.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// confinement is all that the process needs to know; paths are outside of the container's root.
type confinement struct {
	Root            string
	ReadOnlyRoot    bool
	Binds           []bindMount
	CgroupProcs     string // empty: none
	UID, GID        int
	Groups          []int
	Capabilities    uint64 // a bit each
	NoNewPrivileges bool
	Program         string // inside
	Arguments       []string
	Environment     []string
}

// bindMount shows a directory of the host at a path of the container.
type bindMount struct {
	Source, Target string // Target is outside of the root too
	ReadOnly       bool
}

// capabilityNumbers are those a Pod can name here (capabilities(7)).
var capabilityNumbers = map[corev1.Capability]uint{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "FOWNER": unix.CAP_FOWNER,
	"FSETID": unix.CAP_FSETID, "KILL": unix.CAP_KILL, "SETGID": unix.CAP_SETGID,
	"SETUID": unix.CAP_SETUID, "SETPCAP": unix.CAP_SETPCAP,
	"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "NET_RAW": unix.CAP_NET_RAW,
	"SYS_CHROOT": unix.CAP_SYS_CHROOT, "MKNOD": unix.CAP_MKNOD,
	"AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "SETFCAP": unix.CAP_SETFCAP,
}

// capabilities are those of containerd without a word, less what is dropped, and what is added.
func capabilities(wanted *corev1.Capabilities) (uint64, error) {
	var all, mask uint64
	for _, number := range capabilityNumbers {
		all |= 1 << number
	}
	mask = all
	if wanted == nil {
		return mask, nil
	}
	for _, name := range wanted.Drop {
		if name == "ALL" {
			mask = 0
		} else {
			mask &^= 1 << capabilityNumbers[name]
		}
	}
	for _, name := range wanted.Add {
		number, known := capabilityNumbers[name]
		if !known {
			return 0, fmt.Errorf("this node agent does not know the capability %s", name)
		}
		mask |= 1 << number
	}
	return mask, nil
}

// confine fills in what the Pod's and the container's securityContext say.
func (c *container) confine(into *confinement) error {
	pod, own := c.pod.object.Spec.SecurityContext, c.spec.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	var err error
	into.UID = int(first(own.RunAsUser, pod.RunAsUser, 0))
	into.GID = int(first(own.RunAsGroup, pod.RunAsGroup, 0))
	for _, group := range pod.SupplementalGroups {
		into.Groups = append(into.Groups, int(group))
	}
	if pod.FSGroup != nil {
		into.Groups = append(into.Groups, int(*pod.FSGroup))
	}
	if into.UID == 0 && first(own.RunAsNonRoot, pod.RunAsNonRoot, false) {
		return fmt.Errorf("runAsNonRoot, and no runAsUser: images here have no user of their own")
	}
	into.ReadOnlyRoot = first(own.ReadOnlyRootFilesystem, nil, false)
	into.NoNewPrivileges = !first(own.AllowPrivilegeEscalation, nil, true)
	into.Capabilities, err = capabilities(own.Capabilities)
	return err
}

// first is the value of the first pointer that is set.
func first[T any](own, pod *T, otherwise T) T {
	switch {
	case own != nil:
		return *own
	case pod != nil:
		return *pod
	}
	return otherwise
}

// enterContainer confines this process and becomes the container's program. It does not return.
func enterContainer(text string) {
	var c confinement
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		runtime.LockOSThread() // what follows is of the thread, and exec keeps the caller's
		err = c.enter()
	}
	fmt.Fprintf(os.Stderr, "node agent: cannot start the container: %v\n", err)
	os.Exit(128)
}

func (c *confinement) enter() error {
	if c.CgroupProcs != "" {
		if err := os.WriteFile(c.CgroupProcs, []byte("0"), 0o644); err != nil {
			return err
		}
	}
	if err := c.mount(); err != nil {
		return err
	}
	if err := unix.Chroot(c.Root); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := c.dropPrivileges(); err != nil {
		return err
	}
	err := unix.Exec(c.Program, append([]string{c.Program}, c.Arguments...), c.Environment)
	return fmt.Errorf("exec %s: %w", c.Program, err)
}

// mount builds what the container sees. The mount namespace is its own, and private.
func (c *confinement) mount() error {
	if err := unix.Mount(c.Root, c.Root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", c.Root, err)
	}
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	proc := filepath.Join(c.Root, "proc")
	if err := unix.Mount("proc", proc, "proc", plain, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	for _, bind := range c.Binds {
		if err := unix.Mount(bind.Source, bind.Target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s at %s: %w", bind.Source, bind.Target, err)
		}
		if bind.ReadOnly {
			flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | plain)
			if err := unix.Mount("", bind.Target, "", flags, ""); err != nil {
				return fmt.Errorf("make %s read-only: %w", bind.Target, err)
			}
		}
	}
	if !c.ReadOnlyRoot {
		return nil
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY)
	if err := unix.Mount("", c.Root, "", flags, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

// dropPrivileges does what runc does, in its order: the bounding set, the user with capabilities
// kept, then exactly the wanted ones permitted and effective, none inheritable or ambient.
func (c *confinement) dropPrivileges() error {
	for number := uintptr(0); number <= unix.CAP_LAST_CAP; number++ {
		if c.Capabilities&(1<<number) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0)
		if err != nil && err != unix.EINVAL { // a kernel that has fewer
			return fmt.Errorf("drop capability %d: %w", number, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	// Plain system calls: those of the package change all threads, of which the others end anyway.
	groups := make([]uint32, 0, len(c.Groups)+1)
	for _, group := range c.Groups {
		groups = append(groups, uint32(group))
	}
	pointer := uintptr(unsafe.Pointer(unsafe.SliceData(append(groups, 0))))
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, uintptr(len(c.Groups)), pointer, 0},
		{unix.SYS_SETRESGID, uintptr(c.GID), uintptr(c.GID), uintptr(c.GID)},
		{unix.SYS_SETRESUID, uintptr(c.UID), uintptr(c.UID), uintptr(c.UID)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return fmt.Errorf("system call %d: %w", call[0], errno)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		part := uint32(c.Capabilities >> (32 * i))
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if c.NoNewPrivileges {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	return nil
}
