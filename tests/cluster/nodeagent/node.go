// The Node object: there must be one, or Pods cannot be bound and logs cannot be fetched.
package main

import (
	"context"
	"log"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kubeletPort is where the API server fetches logs.
const kubeletPort = 10250

// registerNode creates the Node and says it is ready; it returns when that is so.
// There is no heartbeat: the controller that would miss it does not run.
func (a *Agent) registerNode(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.tryRegisterNode(ctx)
		if err == nil {
			return
		}
		log.Printf("register node: %v", err)
		time.Sleep(apiRetryInterval)
	}
}

func (a *Agent) tryRegisterNode(ctx context.Context) error {
	nodes := a.client.CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: a.config.NodeName,
		Labels: map[string]string{
			corev1.LabelHostname:   a.config.NodeName,
			corev1.LabelOSStable:   "linux",
			corev1.LabelArchStable: "amd64",
		},
	}}
	created, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		created, err = nodes.Get(ctx, a.config.NodeName, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	created.Status = a.nodeStatus()
	if created, err = nodes.UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return err
	}
	created.Spec.Taints = nil // admission taints a new Node not-ready; nobody else lifts it here
	_, err = nodes.Update(ctx, created, metav1.UpdateOptions{})
	return err
}

func (a *Agent) nodeStatus() corev1.NodeStatus {
	size := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods:   resource.MustParse("1000"),
	}
	now := metav1.Now()
	return corev1.NodeStatus{
		Capacity:    size,
		Allocatable: size,
		// No Hostname: the API server would try to resolve and dial it first.
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: a.config.NodeAddress.String()},
		},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{
			KubeletEndpoint: corev1.DaemonEndpoint{Port: kubeletPort},
		},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
	}
}
