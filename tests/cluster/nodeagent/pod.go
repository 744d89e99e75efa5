// One Pod on this Node, from its sandbox to the confirmation of its deletion.
//
// Each pod has one goroutine (run) plus one per container and one that publishes status.
// Three channels, each closed once and in this order, tell them where the pod stands:
// stopping (end gracefully), killing (grace is over), released (network and files are gone).
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type pod struct {
	agent  *Agent
	object *corev1.Pod // as first seen; the spec of a Pod does not change in what matters here
	dir    string
	box    *sandbox // nil until there is a network

	stopping chan struct{}
	killing  chan struct{}
	released chan struct{}
	dirty    chan struct{} // status differs from what was published; capacity 1

	mu          sync.Mutex // guards what follows and the containers' states
	grace       time.Duration
	containers  []*container
	started     metav1.Time
	transitions map[corev1.PodConditionType]corev1.PodCondition
}

func newPod(agent *Agent, object *corev1.Pod) *pod {
	p := &pod{
		agent:       agent,
		object:      object,
		dir:         filepath.Join(agent.config.StateDir, string(object.UID)),
		stopping:    make(chan struct{}),
		killing:     make(chan struct{}),
		released:    make(chan struct{}),
		dirty:       make(chan struct{}, 1),
		started:     metav1.Now(),
		transitions: map[corev1.PodConditionType]corev1.PodCondition{},
	}
	for i := range object.Spec.Containers {
		p.containers = append(p.containers, newContainer(p, &object.Spec.Containers[i]))
	}
	return p
}

func (p *pod) String() string { return p.object.Namespace + "/" + p.object.Name }

// run is the pod's whole life. A completed Pod waits for its deletion without a sandbox.
func (p *pod) run() {
	defer p.agent.forget(p)
	publisher := make(chan struct{})
	go func() {
		defer close(publisher)
		p.publishUntilReleased()
	}()
	if p.prepare() {
		p.runContainers()
	}
	p.release()
	<-publisher
	<-p.stopping
	p.publishFinal()
	p.confirmDeletion()
}

// prepare makes the sandbox; false when the pod is stopped before that succeeds.
func (p *pod) prepare() bool {
	if reason := unsupported(p.object); reason != "" {
		log.Printf("%s: not supported by this node agent: %s", p, reason)
		for _, c := range p.containers {
			c.setWaiting("Unsupported", reason)
		}
		<-p.stopping
		return false
	}
	p.removeFiles() // of an agent before, whose Node was started again
	for !closed(p.stopping) {
		box, err := p.newSandbox()
		if err == nil {
			p.mu.Lock()
			p.box = box
			p.mu.Unlock()
			return true
		}
		log.Printf("%s: sandbox: %v", p, err)
		p.pause(apiRetryInterval)
	}
	return false
}

func (p *pod) newSandbox() (*sandbox, error) {
	if p.object.Spec.HostNetwork {
		return &sandbox{address: p.agent.config.NodeAddress}, nil
	}
	return p.agent.newSandbox()
}

func (p *pod) runContainers() {
	var all sync.WaitGroup
	for _, c := range p.containers {
		all.Go(c.supervise)
	}
	all.Wait()
}

func (p *pod) release() {
	p.mu.Lock()
	box := p.box
	p.mu.Unlock()
	if box != nil {
		p.agent.removeSandbox(box)
	}
	for _, c := range p.containers {
		if err := c.removeMemoryGroup(); err != nil {
			log.Printf("%s: cgroup: %v", p, err)
		}
	}
	p.removeFiles()
	close(p.released)
}

func (p *pod) removeFiles() {
	for _, dir := range []string{p.dir, p.memoryDir()} {
		if err := os.RemoveAll(dir); err != nil {
			log.Printf("%s: remove %s: %v", p, dir, err)
		}
	}
}

// terminate begins the graceful end; a later call only shortens the grace of containers that
// have not been told to stop yet, which is what a second `kubectl delete` needs.
func (p *pod) terminate(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grace = grace
	closeOnce(p.stopping)
}

// kill ends everything at once.
func (p *pod) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	closeOnce(p.stopping)
	closeOnce(p.killing)
}

// confirmDeletion tells the API server that nothing of this Pod runs any more.
func (p *pod) confirmDeletion() {
	now := int64(0)
	options := metav1.DeleteOptions{
		GracePeriodSeconds: &now,
		Preconditions:      &metav1.Preconditions{UID: &p.object.UID},
	}
	pods := p.agent.client.CoreV1().Pods(p.object.Namespace)
	for {
		err := pods.Delete(context.Background(), p.object.Name, options)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		log.Printf("%s: confirm deletion: %v", p, err)
		time.Sleep(apiRetryInterval)
	}
}

// pause waits, but not beyond the moment the pod is told to stop.
func (p *pod) pause(duration time.Duration) {
	select {
	case <-p.stopping:
	case <-time.After(duration):
	}
}

// unsupported names what a Pod asks for and this agent would get wrong by leaving it out.
func unsupported(object *corev1.Pod) string {
	switch {
	case len(object.Spec.InitContainers) > 0:
		return "initContainers"
	case object.Spec.HostPID, object.Spec.HostIPC:
		return "hostPID, hostIPC"
	}
	for _, c := range object.Spec.Containers {
		if c.StartupProbe != nil {
			return "startupProbe"
		}
		for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
			if probe != nil && probe.HTTPGet == nil && probe.TCPSocket == nil {
				return "probes other than httpGet and tcpSocket"
			}
		}
		if c.SecurityContext != nil && first(c.SecurityContext.Privileged, nil, false) {
			return "privileged"
		}
		if hooks := c.Lifecycle; hooks != nil && (hooks.PostStart != nil ||
			hooks.PreStop != nil && hooks.PreStop.Sleep == nil) {
			return "lifecycle hooks other than preStop.sleep"
		}
	}
	return ""
}

// closed and closeOnce are for channels that only ever signal by being closed; callers of
// closeOnce hold the lock that makes it once.
func closed(signal chan struct{}) bool {
	select {
	case <-signal:
		return true
	default:
		return false
	}
}

func closeOnce(signal chan struct{}) {
	if !closed(signal) {
		close(signal)
	}
}
