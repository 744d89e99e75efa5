package main

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestImageName(t *testing.T) {
	for image, want := range map[string]string{
		"echo-basic":                              "echo-basic",
		"echo-basic:v1":                           "echo-basic",
		"example.com:5000/team/echo-basic":        "echo-basic",
		"example.com/echo-basic:v1@sha256:012345": "echo-basic",
	} {
		if got := imageName(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	e := &environment{values: map[string]string{}}
	e.set("NAME", "echo")
	for text, want := range map[string]string{
		"--id=$(NAME)": "--id=echo",
		"$(OTHER)":     "$(OTHER)",
		"$$(NAME)":     "$(NAME)",
		"$NAME":        "$NAME",
	} {
		if got := e.expand(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// A /29 has six addresses between network and broadcast; the seventh take fails, and a freed
// address comes back last.
func TestAddressPool(t *testing.T) {
	pool := newAddressPool(netip.MustParsePrefix("10.0.0.0/29"))
	for _, want := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		expectAddress(t, pool, want)
	}
	pool.free(netip.MustParseAddr("10.0.0.2"))
	for _, want := range []string{"10.0.0.5", "10.0.0.6", "10.0.0.2"} {
		expectAddress(t, pool, want)
	}
	if got, err := pool.take(); err == nil {
		t.Fatalf("a full pool gave %s", got)
	}
}

func expectAddress(t *testing.T, pool *addressPool, want string) {
	t.Helper()
	if got, err := pool.take(); err != nil || got.String() != want {
		t.Fatalf("%s, %v, want %s", got, err, want)
	}
}

func TestPhase(t *testing.T) {
	exit := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	for _, check := range []struct {
		name       string
		containers []*container
		want       corev1.PodPhase
	}{
		{"nothing started", []*container{{}}, corev1.PodPending},
		{"one of two started", []*container{{runs: 1}, {}}, corev1.PodRunning},
		{"one over, one runs", []*container{{runs: 1, over: true}, {runs: 1}}, corev1.PodRunning},
		{"over", []*container{{runs: 1, over: true, last: exit(0)}}, corev1.PodSucceeded},
		{"failed", []*container{{runs: 1, over: true, last: exit(1)}}, corev1.PodFailed},
	} {
		p := &pod{containers: check.containers, stopping: make(chan struct{})}
		if got := p.phase(); got != check.want {
			t.Errorf("%s: %s, want %s", check.name, got, check.want)
		}
	}
}
