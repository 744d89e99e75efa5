package main

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// Pods of others between two replicas do not send both to one of two Nodes.
func TestTurns(t *testing.T) {
	isController := true
	of := func(uid types.UID) *corev1.Pod {
		owner := metav1.OwnerReference{UID: uid, Controller: &isController}
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{owner}}}
	}
	var turns turns
	first := turns.next(of("a"))
	turns.next(of("b"))
	turns.next(&corev1.Pod{})
	if second := turns.next(of("a")); second%2 == first%2 {
		t.Errorf("turns %d and %d", first, second)
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

// Two Pods with one host port do not go to one Node, unless the first has ended.
func TestPortsFree(t *testing.T) {
	pod := func(uid types.UID, node string, port int32, phase corev1.PodPhase) corev1.Pod {
		ports := []corev1.ContainerPort{{HostPort: port, Protocol: "TCP"}}
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid},
			Spec: corev1.PodSpec{
				NodeName: node, Containers: []corev1.Container{{Ports: ports}}},
			Status: corev1.PodStatus{Phase: phase}}
	}
	others := []corev1.Pod{pod("a", "n1", 80, corev1.PodRunning), pod("b", "n2", 80, corev1.PodFailed)}
	for _, check := range []struct {
		node string
		port int32
		want bool
	}{{"n1", 80, false}, {"n1", 81, true}, {"n2", 80, true}, {"n1", 0, true}} {
		own := pod("c", "", check.port, corev1.PodPending)
		if got := portsFree(&own, check.node, others); got != check.want {
			t.Errorf("%s port %d: %t", check.node, check.port, got)
		}
	}
}

// A DaemonSet names its Node in a field; labels narrow the choice.
func TestFits(t *testing.T) {
	node := func(name string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"zone": "z-" + name}}}
	}
	requirement := func(key string, operator corev1.NodeSelectorOperator, values ...string,
	) []corev1.NodeSelectorRequirement {
		return []corev1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}
	}
	pod := func(terms ...corev1.NodeSelectorTerm) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{Affinity: &corev1.Affinity{
			NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.
				NodeSelector{NodeSelectorTerms: terms}}}}}
	}
	named := corev1.NodeSelectorTerm{MatchFields: requirement("metadata.name", "In", "a")}
	labelled := corev1.NodeSelectorTerm{MatchExpressions: requirement("zone", "NotIn", "z-a")}
	for _, check := range []struct {
		name string
		pod  *corev1.Pod
		a, b bool
	}{
		{"anywhere", &corev1.Pod{}, true, true},
		{"by name", pod(named), true, false},
		{"by label", pod(labelled), false, true},
		{"either", pod(named, labelled), true, true},
		{"nowhere", pod(corev1.NodeSelectorTerm{MatchFields: named.MatchFields,
			MatchExpressions: labelled.MatchExpressions}), false, false},
	} {
		if a, b := fits(check.pod, node("a")), fits(check.pod, node("b")); a != check.a || b != check.b {
			t.Errorf("%s: %t %t", check.name, a, b)
		}
	}
}

func TestCapabilities(t *testing.T) {
	const bind = uint64(1) << unix.CAP_NET_BIND_SERVICE
	got, err := capabilities(&corev1.Capabilities{
		Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}})
	if err != nil || got != bind {
		t.Errorf("%x, %v", got, err)
	}
	if got, err := capabilities(nil); err != nil || got&bind == 0 || got == bind {
		t.Errorf("by default %x, %v", got, err)
	}
	if _, err := capabilities(&corev1.Capabilities{Add: []corev1.Capability{"SYS_TIME"}}); err == nil {
		t.Error("an unknown capability must not be left out")
	}
}
