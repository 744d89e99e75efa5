// A container's environment, command and arguments, with references resolved.
package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// environment is an ordered set of variables: later ones may refer to earlier ones.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, known := e.values[name]; !known {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) list() []string {
	lines := make([]string, 0, len(e.names))
	for _, name := range e.names {
		lines = append(lines, name+"="+e.values[name])
	}
	return lines
}

// reference is $(NAME), or $$ for a plain dollar sign before a parenthesis.
var reference = regexp.MustCompile(`\$\$|\$\([-._a-zA-Z][-._a-zA-Z0-9]*\)`)

// expand replaces each $(NAME); an unknown name stays as written.
func (e *environment) expand(text string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$$" {
			return "$"
		}
		if value, known := e.values[found[2:len(found)-1]]; known {
			return value
		}
		return found
	})
}

// environment resolves the container's variables; an error means: try again later.
func (c *container) environment() (*environment, error) {
	e := &environment{values: map[string]string{}}
	e.set("PATH", "/")
	e.set("HOME", "/")
	e.set("HOSTNAME", c.pod.object.Name)
	e.set("KUBERNETES_SERVICE_HOST", c.pod.agent.config.APIServerHost)
	e.set("KUBERNETES_SERVICE_PORT", c.pod.agent.config.APIServerPort)
	for i := range c.spec.EnvFrom {
		if err := c.addAll(e, &c.spec.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range c.spec.Env {
		variable := &c.spec.Env[i]
		if variable.ValueFrom == nil {
			e.set(variable.Name, e.expand(variable.Value))
			continue
		}
		value, found, err := c.resolve(variable.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", variable.Name, err)
		}
		if found {
			e.set(variable.Name, value)
		}
	}
	return e, nil
}

func (c *container) addAll(e *environment, source *corev1.EnvFromSource) error {
	var content keyed
	var err error
	switch {
	case source.SecretRef != nil:
		content, err = c.pod.secret(source.SecretRef.Name, source.SecretRef.Optional)
	case source.ConfigMapRef != nil:
		content, err = c.pod.configMap(source.ConfigMapRef.Name, source.ConfigMapRef.Optional)
	}
	for key, value := range content {
		e.set(source.Prefix+key, string(value))
	}
	return err
}

// resolve yields one valueFrom; found is false for an optional reference to nothing.
func (c *container) resolve(from *corev1.EnvVarSource) (value string, found bool, err error) {
	var content keyed
	var key string
	var optional *bool
	switch {
	case from.FieldRef != nil:
		value, err = c.pod.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.SecretKeyRef != nil:
		key, optional = from.SecretKeyRef.Key, from.SecretKeyRef.Optional
		content, err = c.pod.secret(from.SecretKeyRef.Name, optional)
	case from.ConfigMapKeyRef != nil:
		key, optional = from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Optional
		content, err = c.pod.configMap(from.ConfigMapKeyRef.Name, optional)
	default:
		err = fmt.Errorf("this node agent does not know this kind of valueFrom")
	}
	if err != nil {
		return "", false, err
	}
	bytes, found := content[key]
	if !found && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("no key %q", key)
	}
	return string(bytes), found, nil
}

// field yields what the downward API calls a field path.
func (p *pod) field(path string) (string, error) {
	object, config := p.object, &p.agent.config
	switch path {
	case "metadata.name":
		return object.Name, nil
	case "metadata.namespace":
		return object.Namespace, nil
	case "metadata.uid":
		return string(object.UID), nil
	case "spec.nodeName":
		return config.NodeName, nil
	case "spec.serviceAccountName":
		return object.Spec.ServiceAccountName, nil
	case "status.hostIP", "status.hostIPs":
		return config.NodeAddress.String(), nil
	case "status.podIP", "status.podIPs":
		return p.box.address.String(), nil
	}
	key, quoted := strings.CutSuffix(path, "']")
	if label, ok := strings.CutPrefix(key, "metadata.labels['"); ok && quoted {
		return object.Labels[label], nil
	}
	if annotation, ok := strings.CutPrefix(key, "metadata.annotations['"); ok && quoted {
		return object.Annotations[annotation], nil
	}
	return "", fmt.Errorf("unknown field path %q", path)
}

// arguments are what follows the binary: an image here has no shell and one program, so the
// command's first word only names it.
func (c *container) arguments(e *environment) []string {
	words := append([]string{}, c.spec.Args...)
	if len(c.spec.Command) > 1 {
		words = append(append([]string{}, c.spec.Command[1:]...), words...)
	}
	for i := range words {
		words[i] = e.expand(words[i])
	}
	return words
}

// keyed is the content of a Secret or of a ConfigMap.
type keyed map[string][]byte

func (p *pod) secret(name string, optional *bool) (keyed, error) {
	secrets := p.agent.client.CoreV1().Secrets(p.object.Namespace)
	secret, err := secrets.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	return secret.Data, nil
}

func (p *pod) configMap(name string, optional *bool) (keyed, error) {
	configMaps := p.agent.client.CoreV1().ConfigMaps(p.object.Namespace)
	configMap, err := configMaps.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	content := keyed{}
	for key, value := range configMap.Data {
		content[key] = []byte(value)
	}
	for key, value := range configMap.BinaryData {
		content[key] = value
	}
	return content, nil
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
