// Volumes: Secrets and ConfigMaps as files, written when a container starts and not refreshed;
// emptyDir as a directory that the containers of a Pod do not share; projected ones are empty.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
)

// mountVolumes writes every volume that the container mounts into its root.
func (c *container) mountVolumes() error {
	volumes := map[string]*corev1.Volume{}
	for i := range c.pod.object.Spec.Volumes {
		volumes[c.pod.object.Spec.Volumes[i].Name] = &c.pod.object.Spec.Volumes[i]
	}
	for i := range c.spec.VolumeMounts {
		mount := &c.spec.VolumeMounts[i]
		files, err := c.pod.files(volumes[mount.Name])
		if err != nil {
			return fmt.Errorf("volume %s: %w", mount.Name, err)
		}
		target := filepath.Join(c.root, mount.MountPath)
		if err := writeFiles(files, target, mount.SubPath); err != nil {
			return fmt.Errorf("volume %s: %w", mount.Name, err)
		}
	}
	return nil
}

// files yields a volume's content by path.
func (p *pod) files(volume *corev1.Volume) (keyed, error) {
	switch {
	case volume.Secret != nil:
		content, err := p.secret(volume.Secret.SecretName, volume.Secret.Optional)
		if err != nil {
			return nil, err
		}
		return pick(content, volume.Secret.Items)
	case volume.ConfigMap != nil:
		content, err := p.configMap(volume.ConfigMap.Name, volume.ConfigMap.Optional)
		if err != nil {
			return nil, err
		}
		return pick(content, volume.ConfigMap.Items)
	case volume.EmptyDir != nil, volume.Projected != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("this node agent does not know this kind of volume")
}

// pick renames keys to paths; without items every key is a path.
func pick(content keyed, items []corev1.KeyToPath) (keyed, error) {
	if len(items) == 0 {
		return content, nil
	}
	picked := keyed{}
	for _, item := range items {
		value, found := content[item.Key]
		if !found {
			return nil, fmt.Errorf("no key %q", item.Key)
		}
		picked[item.Path] = value
	}
	return picked, nil
}

// writeFiles puts files below target, or the one named by subPath at target itself.
func writeFiles(files keyed, target, subPath string) error {
	if subPath != "" {
		content, found := files[subPath]
		if !found {
			return fmt.Errorf("no file %q for subPath", subPath)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for path, content := range files {
		file := filepath.Join(target, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
