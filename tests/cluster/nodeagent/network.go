// Pods' network: one namespace per Pod, joined to the Node's bridge by a veth pair.
//
// Namespaces are named, so that `ip netns` shows them and `scripts/cluster down` can find them
// even after this agent was killed. The bridge end of each pair lives in the agent's own
// namespace and goes away with the other end.
package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// addressPool hands out a prefix's addresses in turn: one just freed comes back last, so that
// whoever still remembers it as a dead Pod's does not meet another Pod there.
type addressPool struct {
	mu     sync.Mutex
	prefix netip.Prefix
	last   netip.Addr
	taken  map[netip.Addr]bool
}

func newAddressPool(prefix netip.Prefix) *addressPool {
	return &addressPool{prefix: prefix, last: prefix.Addr(), taken: map[netip.Addr]bool{}}
}

func (pool *addressPool) take() (netip.Addr, error) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	candidate := pool.last
	for range 1 << (pool.prefix.Addr().BitLen() - pool.prefix.Bits()) {
		candidate = candidate.Next()
		if !pool.prefix.Contains(candidate) || !pool.prefix.Contains(candidate.Next()) {
			candidate = pool.prefix.Addr().Next() // past the end: leave out the broadcast address
		}
		if !pool.taken[candidate] {
			pool.taken[candidate] = true
			pool.last = candidate
			return candidate, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address left in %s", pool.prefix)
}

func (pool *addressPool) free(address netip.Addr) {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	delete(pool.taken, address)
}

// sandbox is a Pod's network: its namespace (without a name: the Node's own) and its address there.
type sandbox struct {
	name    string
	address netip.Addr
}

// newSandbox makes a namespace with an address from the Node's range.
func (a *Agent) newSandbox() (*sandbox, error) {
	address, err := a.addresses.take()
	if err != nil {
		return nil, err
	}
	octets := address.As4()
	suffix := fmt.Sprintf("%d-%d", octets[2], octets[3])
	box := &sandbox{name: a.config.NetnsPrefix + suffix, address: address}
	if err := a.connect(box, "veth"+suffix); err != nil {
		a.removeSandbox(box)
		return nil, err
	}
	return box, nil
}

func (a *Agent) connect(box *sandbox, veth string) error {
	if err := runIP("", "netns", "add", box.name); err != nil {
		return err
	}
	outside := fmt.Sprintf("link add %s type veth peer name eth0 netns %s\n", veth, box.name) +
		fmt.Sprintf("link set %s master %s up\n", veth, a.config.Bridge)
	if err := runIP(outside, "-batch", "-"); err != nil {
		return err
	}
	inside := "link set lo up\n" +
		fmt.Sprintf("addr add %s/%d dev eth0\n", box.address, a.config.ClusterRange.Bits()) +
		"link set eth0 up\n" +
		fmt.Sprintf("route add default via %s\n", a.config.NodeAddress)
	return runIP(inside, "-n", box.name, "-batch", "-")
}

// removeSandbox undoes newSandbox, whole or half done.
func (a *Agent) removeSandbox(box *sandbox) {
	if box.name == "" {
		return
	}
	_ = runIP("", "netns", "del", box.name)
	a.addresses.free(box.address)
}

func runIP(stdin string, arguments ...string) error {
	command := exec.Command("ip", arguments...)
	command.Stdin = strings.NewReader(stdin)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, output)
	}
	return nil
}

// within runs action on a thread that has entered the sandbox; what it forks stays inside.
//
// The thread is thrown away afterwards. So a child must not ask for a parent-death signal:
// the kernel means the parent thread.
func (box *sandbox) within(action func() error) error {
	if box.name == "" {
		return action()
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the runtime then ends the thread
		result <- enterAnd("/run/netns/"+box.name, action)
	}()
	return <-result
}

func enterAnd(path string, action func() error) error {
	namespace, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { _ = unix.Close(namespace) }()
	if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return action()
}
