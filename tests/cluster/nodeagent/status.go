// A Pod's status: computed from its containers, published until the API server has it.
package main

import (
	"context"
	"log"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// publishUntilReleased writes the status after every change; changes during a write are one.
func (p *pod) publishUntilReleased() {
	for {
		select {
		case <-p.released:
			return
		case <-p.dirty:
		}
		for !closed(p.released) && !p.publish() {
			time.Sleep(apiRetryInterval)
		}
	}
}

// publishFinal says, once, that no container runs any more: before a Pod vanishes, whoever
// watches sees it unready.
func (p *pod) publishFinal() {
	for !closed(p.killing) && !p.publish() {
		time.Sleep(apiRetryInterval)
	}
}

// publish writes the status once; false means: try again.
func (p *pod) publish() bool {
	pods := p.agent.client.CoreV1().Pods(p.object.Namespace)
	current, err := pods.Get(context.Background(), p.object.Name, metav1.GetOptions{})
	if err == nil {
		if current.UID != p.object.UID {
			return true // deleted by force and made anew: not ours to write
		}
		p.fill(&current.Status)
		_, err = pods.UpdateStatus(context.Background(), current, metav1.UpdateOptions{})
	}
	if err == nil || apierrors.IsNotFound(err) {
		return true
	}
	if !apierrors.IsConflict(err) {
		log.Printf("%s: status: %v", p, err)
	}
	return false
}

// fill sets what a kubelet sets and leaves the rest, such as others' conditions.
func (p *pod) fill(status *corev1.PodStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	host := p.agent.config.NodeAddress.String()
	status.HostIP, status.HostIPs = host, []corev1.HostIP{{IP: host}}
	status.StartTime = &p.started
	// As a kubelet has it: in the Node's network the Pod keeps the address that it was seen at first.
	if p.box != nil && (!p.object.Spec.HostNetwork || status.PodIP == "") {
		address := p.box.address.String()
		status.PodIP, status.PodIPs = address, []corev1.PodIP{{IP: address}}
	}
	status.ContainerStatuses = nil
	for _, c := range p.containers {
		status.ContainerStatuses = append(status.ContainerStatuses, c.status())
	}
	status.Phase = p.phase()
	completed := status.Phase == corev1.PodSucceeded || status.Phase == corev1.PodFailed
	ready, reason := p.ready(completed)
	p.setCondition(status, corev1.PodScheduled, true, "")
	p.setCondition(status, corev1.PodReadyToStartContainers, p.box != nil && !completed, "")
	p.setCondition(status, corev1.PodInitialized, true, "")
	p.setCondition(status, corev1.ContainersReady, ready, reason)
	p.setCondition(status, corev1.PodReady, ready, reason)
}

// phase follows the rules of a kubelet's getPhase. Callers hold p.mu.
func (p *pod) phase() corev1.PodPhase {
	over, failed, begun := 0, 0, 0
	for _, c := range p.containers {
		ended := c.over || closed(p.stopping) && c.state.Terminated != nil
		if c.runs > 0 {
			begun++
		}
		if ended {
			over++
		}
		if ended && c.last.Terminated != nil && c.last.Terminated.ExitCode != 0 {
			failed++
		}
	}
	switch {
	case over < len(p.containers) && begun == 0:
		return corev1.PodPending
	case over < len(p.containers):
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	}
	return corev1.PodSucceeded
}

// ready tells whether all containers are, and the reason when not. Callers hold p.mu.
func (p *pod) ready(completed bool) (bool, string) {
	if completed {
		return false, "PodCompleted"
	}
	for _, c := range p.containers {
		if !c.ready {
			return false, "ContainersNotReady"
		}
	}
	return true, ""
}

// setCondition writes one condition, with the time it last changed. Callers hold p.mu.
func (p *pod) setCondition(
	status *corev1.PodStatus, kind corev1.PodConditionType, holds bool, reason string,
) {
	condition := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: reason,
		LastTransitionTime: metav1.Now()}
	if holds {
		condition.Status = corev1.ConditionTrue
	}
	if before, known := p.transitions[kind]; known && before.Status == condition.Status {
		condition.LastTransitionTime = before.LastTransitionTime
	}
	p.transitions[kind] = condition
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			status.Conditions[i] = condition
			return
		}
	}
	status.Conditions = append(status.Conditions, condition)
}

// status is the container's part of the Pod's status. Callers hold pod.mu.
func (c *container) status() corev1.ContainerStatus {
	started := c.state.Running != nil
	status := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: c.spec.Image,
		Ready: c.ready, Started: &started, RestartCount: c.restarts, State: c.state,
	}
	if c.runs > 0 {
		status.ContainerID = "process://" + string(c.pod.object.UID) + "/" + c.spec.Name
	}
	if c.state.Terminated == nil {
		status.LastTerminationState = c.last
	}
	return status
}
