// The stand-in for kube-scheduler: every Pod without a Node goes to one that its nodeSelector and
// required node affinity (which DaemonSets use to name the Node) allow and whose host ports are free,
// those of one owner in turn.
package main

import (
	"context"
	"log"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// startScheduler binds Pods until ctx ends.
func startScheduler(ctx context.Context, client kubernetes.Interface) {
	unbound := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", "").String()
	})
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, unbound)
	var turns turns
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(
		cache.ResourceEventHandlerFuncs{AddFunc: func(object any) {
			pod := object.(*corev1.Pod)
			go bind(ctx, client, pod, turns.next(pod))
		}})
	if err != nil {
		panic(err) // only a stopped informer refuses a handler
	}
	factory.Start(ctx.Done())
}

// turns counts the Pods of each owner: two replicas go to two Nodes, whoever else comes meanwhile.
type turns struct {
	lock sync.Mutex
	last map[types.UID]uint64
}

func (t *turns) next(pod *corev1.Pod) uint64 {
	var owner types.UID
	if controller := metav1.GetControllerOf(pod); controller != nil {
		owner = controller.UID
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	if t.last == nil {
		t.last = map[types.UID]uint64{}
	}
	t.last[owner]++
	return t.last[owner]
}

// bind binds one Pod, and asks again while the API server does not answer or no Node fits.
func bind(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, turn uint64) {
	for ctx.Err() == nil && pod.DeletionTimestamp == nil {
		err := tryBind(ctx, client, pod, turn)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		log.Printf("bind %s/%s: %v", pod.Namespace, pod.Name, err)
		time.Sleep(apiRetryInterval)
	}
}

func tryBind(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, turn uint64) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var others corev1.PodList
	if ports := hostPorts(pod); len(ports) > 0 {
		found, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		others = *found
	}
	fitting := slices.DeleteFunc(nodes.Items, func(node corev1.Node) bool {
		return node.Spec.Unschedulable && !namesNode(pod) || !fits(pod, &node) ||
			!portsFree(pod, node.Name, others.Items)
	})
	if len(fitting) == 0 {
		time.Sleep(apiRetryInterval)
		return apierrors.NewServiceUnavailable("no Node fits")
	}
	node := fitting[turn%uint64(len(fitting))].Name
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	return client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
}

// hostPorts are the ports that a Pod takes on its Node, with their protocols. The API server gives each
// port of a Pod in the Node's network one, whether its template has it or not.
func hostPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.HostPort != 0 {
				ports = append(ports, corev1.ContainerPort{HostPort: port.HostPort, Protocol: port.Protocol})
			}
		}
	}
	return ports
}

// portsFree tells whether no Pod on the Node that has not ended has one of these host ports.
func portsFree(pod *corev1.Pod, node string, others []corev1.Pod) bool {
	wanted := hostPorts(pod)
	return !slices.ContainsFunc(others, func(other corev1.Pod) bool {
		return other.Spec.NodeName == node && other.UID != pod.UID && !finished(&other) &&
			slices.ContainsFunc(hostPorts(&other), func(port corev1.ContainerPort) bool {
				return slices.Contains(wanted, port)
			})
	})
}

// terms are those of the required node affinity, of which one must hold; nil when there are none.
func terms(pod *corev1.Pod) []corev1.NodeSelectorTerm {
	affinity := pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil ||
		affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

// namesNode tells a DaemonSet's Pod, which goes to its Node whether others may or not.
func namesNode(pod *corev1.Pod) bool {
	return slices.ContainsFunc(terms(pod), func(term corev1.NodeSelectorTerm) bool {
		return len(term.MatchFields) > 0
	})
}

func fits(pod *corev1.Pod, node *corev1.Node) bool {
	for key, value := range pod.Spec.NodeSelector {
		if node.Labels[key] != value {
			return false
		}
	}
	all := terms(pod)
	return all == nil || slices.ContainsFunc(all, func(term corev1.NodeSelectorTerm) bool {
		name := map[string]string{metav1.ObjectNameField: node.Name}
		return holds(term.MatchFields, name) && holds(term.MatchExpressions, node.Labels)
	})
}

func holds(requirements []corev1.NodeSelectorRequirement, values map[string]string) bool {
	for _, r := range requirements {
		value, found := values[r.Key]
		among := found && slices.Contains(r.Values, value)
		switch r.Operator {
		case corev1.NodeSelectorOpIn:
			found = among
		case corev1.NodeSelectorOpNotIn:
			found = !among
		case corev1.NodeSelectorOpDoesNotExist:
			found = !found
		case corev1.NodeSelectorOpExists:
		default: // Gt and Lt
			return false
		}
		if !found {
			return false
		}
	}
	return true
}
