// Memory limits: a cgroup for each container that has one, v1 or v2 as the machine has it.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const cgroupMount = "/sys/fs/cgroup"

// memoryGroup is a container's cgroup.
type memoryGroup struct {
	dir string
	// Where the container sees it, relative to its root.
	shown string
}

// makeMemoryGroup makes or refreshes the cgroup of a container with a memory limit; nil without.
func (c *container) makeMemoryGroup() (*memoryGroup, error) {
	limit := c.spec.Resources.Limits.Memory().Value()
	if limit == 0 {
		return nil, nil
	}
	group, file := c.memoryGroup()
	if err := os.MkdirAll(group.dir, 0o755); err != nil {
		return nil, fmt.Errorf("memory limit: %w", err)
	}
	content := []byte(strconv.FormatInt(limit, 10))
	if err := os.WriteFile(filepath.Join(group.dir, file), content, 0o644); err != nil {
		return nil, fmt.Errorf("memory limit: %w", err)
	}
	return group, nil
}

// memoryGroup says where the group is, and which of its files is the limit.
func (c *container) memoryGroup() (*memoryGroup, string) {
	name := filepath.Join(c.pod.agent.config.Cgroup, string(c.pod.object.UID)+"-"+c.spec.Name)
	if _, err := os.Stat(cgroupMount + "/memory/memory.limit_in_bytes"); err == nil {
		return &memoryGroup{dir: filepath.Join(cgroupMount, "memory", name),
			shown: "sys/fs/cgroup/memory"}, "memory.limit_in_bytes"
	}
	// v2: every group above must hand the controller down. No process may be in it then, which
	// only the root is free of.
	for dir := cgroupMount; dir != filepath.Join(cgroupMount, name); {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0o644)
		rest, _ := filepath.Rel(dir, filepath.Join(cgroupMount, name))
		next, _, _ := strings.Cut(rest, "/")
		dir = filepath.Join(dir, next)
		_ = os.Mkdir(dir, 0o755)
	}
	return &memoryGroup{dir: filepath.Join(cgroupMount, name), shown: "sys/fs/cgroup"}, "memory.max"
}

// removeMemoryGroup undoes makeMemoryGroup; all processes have ended.
func (c *container) removeMemoryGroup() error {
	if c.spec.Resources.Limits.Memory().IsZero() {
		return nil
	}
	group, _ := c.memoryGroup()
	if err := os.Remove(group.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
