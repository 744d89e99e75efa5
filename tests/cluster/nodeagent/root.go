// A container's file tree: its binary, what every program expects to find, its volumes.
//
// An image is a static binary in the image directory, named by the last path element of the
// image's name: example.com/team/echo-basic:v1 is echo-basic.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// buildRoot makes or refreshes the tree and returns the binary's path inside it, and what is to be
// mounted there.
func (c *container) buildRoot() (string, []bindMount, error) {
	for _, directory := range []string{"etc", "dev", "proc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(c.root, directory), 0o755); err != nil {
			return "", nil, err
		}
	}
	if err := os.Chmod(filepath.Join(c.root, "tmp"), 0o1777|os.ModeSticky); err != nil {
		return "", nil, err
	}
	if err := c.makeDevices(); err != nil {
		return "", nil, err
	}
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n",
		c.pod.box.address, c.pod.object.Name)
	err := os.WriteFile(filepath.Join(c.root, "etc/hosts"), []byte(hosts), 0o644)
	if err != nil {
		return "", nil, err
	}
	binds, err := c.mountVolumes()
	if err != nil {
		return "", nil, err
	}
	binary, err := c.placeBinary()
	return binary, binds, err
}

func (c *container) placeBinary() (string, error) {
	name := imageName(c.spec.Image)
	image := filepath.Join(c.pod.agent.config.ImageDir, name)
	inside := "/" + name
	err := os.Link(image, filepath.Join(c.root, inside))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("image %s: %w", c.spec.Image, err)
	}
	return inside, nil
}

// imageName is an image's last path element without tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}

// makeDevices makes the character devices that runtimes of languages open.
func (c *container) makeDevices() error {
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "random": 8, "urandom": 9} {
		path := filepath.Join(c.root, "dev", name)
		err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor)))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}
