// One container: a process in its Pod's namespace and its own chroot, started again when it
// ends, stopped as a container runtime does: SIGTERM, grace, SIGKILL.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Between restarts. A kubelet begins at 10 s and ends at 5 min: too slow for tests.
	restartPauseMin = 500 * time.Millisecond
	restartPauseMax = 8 * time.Second
	// A container that ran this long begins again with the shortest pause.
	restartPauseReset = 10 * time.Second
)

type container struct {
	pod  *pod
	spec *corev1.Container
	root string

	// Guarded by pod.mu.
	state    corev1.ContainerState
	last     corev1.ContainerState // the previous run, terminated
	ready    bool
	restarts int32
	runs     int32
	over     bool // ended and not to be started again
}

func newContainer(p *pod, spec *corev1.Container) *container {
	return &container{pod: p, spec: spec, root: filepath.Join(p.dir, spec.Name),
		state: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
}

// process is one run of a container. exited yields once, when the process is gone.
type process struct {
	pid    int
	exited chan corev1.ContainerStateTerminated
}

// supervise starts the container as often as its Pod's restart policy says.
func (c *container) supervise() {
	pause := restartPauseMin
	for !closed(c.pod.stopping) {
		began := time.Now()
		running, err := c.start()
		if err != nil {
			// Often a Secret that does not exist yet: no backoff, so that the Pod follows at once.
			log.Printf("%s: %s: %v", c.pod, c.spec.Name, err)
			c.setWaiting("CreateContainerError", err.Error())
			c.pod.pause(restartPauseMin)
			continue
		}
		c.setRunning()
		end := c.follow(running)
		log.Printf("%s: %s: ended: %s, exit code %d", c.pod, c.spec.Name, end.Reason, end.ExitCode)
		if c.setTerminated(end); closed(c.pod.stopping) || c.over {
			return
		}
		if time.Since(began) > restartPauseReset {
			pause = restartPauseMin
		}
		c.setWaiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting", pause))
		c.pod.pause(pause)
		pause = min(2*pause, restartPauseMax)
	}
}

// start brings the container's process to life inside the Pod's sandbox.
func (c *container) start() (*process, error) {
	confined, err := c.confinement()
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = writer.Close() }()
	if err := c.collectLog(reader); err != nil {
		_ = reader.Close()
		return nil, err
	}
	command := &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{"nodeagent", "container", string(confined)},
		Dir:         "/",
		Stdout:      writer,
		Stderr:      writer,
		SysProcAttr: processAttributes(),
	}
	if err := c.pod.box.within(command.Start); err != nil {
		return nil, err
	}
	running := &process{
		pid:    command.Process.Pid,
		exited: make(chan corev1.ContainerStateTerminated, 1),
	}
	go func() { running.exited <- waitFor(command) }()
	return running, nil
}

// confinement builds the file tree and the cgroup, and says, as JSON, what the process needs to know
// to become the container (confine.go).
func (c *container) confinement() ([]byte, error) {
	into := confinement{Root: c.root}
	program, binds, err := c.buildRoot()
	if err != nil {
		return nil, err
	}
	environment, err := c.environment()
	if err != nil {
		return nil, err
	}
	group, err := c.makeMemoryGroup()
	if err != nil {
		return nil, err
	}
	if group != nil {
		target := filepath.Join(c.root, group.shown)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return nil, err
		}
		binds = append(binds, bindMount{Source: group.dir, Target: target, ReadOnly: true})
		into.CgroupProcs = filepath.Join(group.dir, "cgroup.procs")
	}
	into.Program, into.Binds = program, binds
	into.Arguments, into.Environment = c.arguments(environment), environment.list()
	if err := c.confine(&into); err != nil {
		return nil, err
	}
	return json.Marshal(into)
}

// processAttributes: a group of its own lets stop reach what the process forked.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS}
}

func waitFor(command *exec.Cmd) corev1.ContainerStateTerminated {
	began := metav1.Now()
	_ = command.Wait() // the outcome is in ProcessState
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
	end := corev1.ContainerStateTerminated{StartedAt: began, FinishedAt: metav1.Now()}
	status := command.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		end.Signal, end.ExitCode = int32(status.Signal()), 128+int32(status.Signal())
		end.Reason = "Error"
	case status.ExitStatus() != 0:
		end.ExitCode, end.Reason = int32(status.ExitStatus()), "Error"
	default:
		end.Reason = "Completed"
	}
	return end
}

// follow watches a run until it ends: by itself, because the pod is told to stop, or because its
// liveness probe fails. Readiness is probed throughout: a terminating Pod is still ready until it
// says otherwise.
func (c *container) follow(running *process) corev1.ContainerStateTerminated {
	probing, cancel := context.WithCancel(context.Background())
	defer cancel()
	go c.watchReadiness(probing, running.pid)
	go c.refresh(probing, tokenRenewInterval, isProjected)
	go c.refresh(probing, secretRefreshInterval, isSecretOrConfigMap)
	dead := make(chan struct{})
	go c.watchLiveness(probing, dead)
	select {
	case end := <-running.exited:
		return end
	case <-c.pod.stopping:
	case <-dead:
		log.Printf("%s: %s: the liveness probe fails", c.pod, c.spec.Name)
	}
	return c.stop(running)
}

// stop ends a run: the preStop sleep and the wait after SIGTERM share the Pod's grace.
func (c *container) stop(running *process) corev1.ContainerStateTerminated {
	c.pod.mu.Lock()
	grace := c.pod.grace
	c.pod.mu.Unlock()
	if !closed(c.pod.stopping) { // by the liveness probe: nobody gave a grace
		grace = time.Duration(first(c.pod.object.Spec.TerminationGracePeriodSeconds, nil, 30)) *
			time.Second
	}
	graceOver := time.NewTimer(grace)
	defer graceOver.Stop()
	select {
	case end := <-running.exited:
		return end
	case <-time.After(c.preStopSleep()):
		_ = syscall.Kill(running.pid, syscall.SIGTERM)
		select {
		case end := <-running.exited:
			return end
		case <-graceOver.C:
		case <-c.pod.killing:
		}
	case <-graceOver.C:
	case <-c.pod.killing:
	}
	_ = syscall.Kill(-running.pid, syscall.SIGKILL)
	return <-running.exited
}

func (c *container) preStopSleep() time.Duration {
	if hooks := c.spec.Lifecycle; hooks != nil && hooks.PreStop != nil {
		return time.Duration(hooks.PreStop.Sleep.Seconds) * time.Second
	}
	return 0
}

func (c *container) setWaiting(reason, message string) {
	c.change(func() {
		c.state = corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	})
}

func (c *container) setRunning() {
	c.change(func() {
		c.restarts = c.runs
		c.runs++
		c.state = corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	})
}

func (c *container) setReady(ready bool) {
	if c.isReady() != ready {
		c.change(func() { c.ready = ready && c.state.Running != nil })
	}
}

func (c *container) isReady() bool {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	return c.ready
}

func (c *container) setTerminated(end corev1.ContainerStateTerminated) {
	c.change(func() {
		c.ready = false
		c.state = corev1.ContainerState{Terminated: &end}
		c.last = c.state
		switch c.pod.object.Spec.RestartPolicy {
		case corev1.RestartPolicyNever:
			c.over = true
		case corev1.RestartPolicyOnFailure:
			c.over = end.ExitCode == 0
		}
	})
}

// change alters the container's state and has the Pod's status published.
func (c *container) change(alter func()) {
	c.pod.mu.Lock()
	alter()
	c.pod.mu.Unlock()
	select {
	case c.pod.dirty <- struct{}{}:
	default: // a publication is already due; it will see this change
	}
}
