// Volumes: Secrets, ConfigMaps and projected ones as files, written when a container starts and again
// now and then, as they are by then; emptyDirs as directories that live as long as the Pod and that
// its containers share.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kubelet renews a token after 80 % of its life, which is ten minutes at least: no test would
// meet it.
const tokenRenewInterval = 20 * time.Second

// A kubelet has a change within about a minute and a half.
const secretRefreshInterval = 5 * time.Second

// mountVolumes writes every volume that the container mounts into its root, and says which are to
// be mounted there.
func (c *container) mountVolumes() ([]bindMount, error) {
	var binds []bindMount
	volumes := c.pod.volumes()
	for i := range c.spec.VolumeMounts {
		mount := &c.spec.VolumeMounts[i]
		volume, target := volumes[mount.Name], filepath.Join(c.root, mount.MountPath)
		if volume.EmptyDir != nil {
			source, err := c.pod.emptyDir(volume)
			if err == nil {
				err = os.MkdirAll(target, 0o755)
			}
			if err != nil {
				return nil, fmt.Errorf("volume %s: %w", mount.Name, err)
			}
			bind := bindMount{filepath.Join(source, mount.SubPath), target, mount.ReadOnly}
			binds = append(binds, bind)
			continue
		}
		files, err := c.pod.files(volume)
		if err == nil {
			err = writeFiles(files, target, mount.SubPath)
		}
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", mount.Name, err)
		}
	}
	return binds, nil
}

// volumes are the Pod's, by name.
func (p *pod) volumes() map[string]*corev1.Volume {
	volumes := map[string]*corev1.Volume{}
	for i := range p.object.Spec.Volumes {
		volumes[p.object.Spec.Volumes[i].Name] = &p.object.Spec.Volumes[i]
	}
	return volumes
}

// memoryDir is where the Pod's emptyDirs in memory are.
func (p *pod) memoryDir() string {
	return filepath.Join(p.agent.config.MemoryDir, string(p.object.UID))
}

// emptyDir makes the directory, if it is not there from another container or an earlier run.
func (p *pod) emptyDir(volume *corev1.Volume) (string, error) {
	dir := filepath.Join(p.dir, "volumes", volume.Name)
	if volume.EmptyDir.Medium == corev1.StorageMediumMemory {
		dir = filepath.Join(p.memoryDir(), volume.Name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o777) // as a kubelet does, whatever the umask
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
	case volume.Projected != nil:
		return p.projected(volume.Projected)
	}
	return nil, fmt.Errorf("this node agent does not know this kind of volume")
}

// projected joins the sources of a projected volume.
func (p *pod) projected(volume *corev1.ProjectedVolumeSource) (keyed, error) {
	all := keyed{}
	for i := range volume.Sources {
		source, part := &volume.Sources[i], keyed{}
		var err error
		switch {
		case source.ServiceAccountToken != nil:
			part, err = p.token(source.ServiceAccountToken)
		case source.ConfigMap != nil:
			if part, err = p.configMap(source.ConfigMap.Name, source.ConfigMap.Optional); err == nil {
				part, err = pick(part, source.ConfigMap.Items)
			}
		case source.Secret != nil:
			if part, err = p.secret(source.Secret.Name, source.Secret.Optional); err == nil {
				part, err = pick(part, source.Secret.Items)
			}
		case source.DownwardAPI != nil:
			for _, item := range source.DownwardAPI.Items {
				var value string
				if item.FieldRef != nil && err == nil {
					value, err = p.field(item.FieldRef.FieldPath)
					part[item.Path] = []byte(value)
				}
			}
		default:
			err = fmt.Errorf("this node agent does not know this kind of projection")
		}
		if err != nil {
			return nil, err
		}
		for path, content := range part {
			all[path] = content
		}
	}
	return all, nil
}

// token asks for a token of the Pod's ServiceAccount that ends with the Pod.
func (p *pod) token(source *corev1.ServiceAccountTokenProjection) (keyed, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: p.object.Name, UID: p.object.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	accounts := p.agent.client.CoreV1().ServiceAccounts(p.object.Namespace)
	answer, err := accounts.CreateToken(context.Background(), p.object.Spec.ServiceAccountName,
		request, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return keyed{source.Path: []byte(answer.Status.Token)}, nil
}

func isProjected(volume *corev1.Volume) bool { return volume.Projected != nil }

func isSecretOrConfigMap(volume *corev1.Volume) bool {
	return volume.Secret != nil || volume.ConfigMap != nil
}

// refresh writes the volumes that are chosen anew, as they are by then, until ctx ends. As with a
// kubelet, one that is gone leaves its files, and a file mounted by subPath stays as it was.
func (c *container) refresh(ctx context.Context, interval time.Duration,
	isChosen func(*corev1.Volume) bool) {
	volumes := c.pod.volumes()
	for sleep(ctx, interval) {
		for i := range c.spec.VolumeMounts {
			mount := &c.spec.VolumeMounts[i]
			if !isChosen(volumes[mount.Name]) || mount.SubPath != "" {
				continue
			}
			files, err := c.pod.files(volumes[mount.Name])
			if err == nil && ctx.Err() == nil {
				err = writeFiles(files, filepath.Join(c.root, mount.MountPath), "")
			}
			if err != nil {
				log.Printf("%s: renew %s: %v", c.pod, mount.Name, err)
			}
		}
	}
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
		return replaceFile(target, content)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for path, content := range files {
		file := filepath.Join(target, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := replaceFile(file, content); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile writes a file so that whoever reads it sees the old or the new content, whole.
func replaceFile(path string, content []byte) error {
	unfinished := path + ".new"
	if err := os.WriteFile(unfinished, content, 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}
