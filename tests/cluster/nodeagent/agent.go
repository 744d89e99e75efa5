// From watch events to running pods: which Pods of this Node exist, which are to end.
package main

import (
	"context"
	"net"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// apiRetryInterval is how long to wait before asking an API server again that did not answer.
const apiRetryInterval = 250 * time.Millisecond

// Agent runs the Pods that are bound to one Node.
type Agent struct {
	config    Config
	client    kubernetes.Interface
	addresses *addressPool

	mu   sync.Mutex
	pods map[types.UID]*pod
}

// NewAgent returns an agent that runs nothing yet.
func NewAgent(config Config, client kubernetes.Interface) *Agent {
	return &Agent{
		config:    config,
		client:    client,
		addresses: newAddressPool(config.PodRange),
		pods:      map[types.UID]*pod{},
	}
}

// Run follows this Node's Pods until ctx ends, then kills what still runs.
func (a *Agent) Run(ctx context.Context) {
	onThisNode := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", a.config.NodeName).String()
	})
	factory := informers.NewSharedInformerFactoryWithOptions(a.client, 0, onThisNode)
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { a.observe(object.(*corev1.Pod)) },
		UpdateFunc: func(_, object any) { a.observe(object.(*corev1.Pod)) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			a.observeGone(object.(*corev1.Pod).UID)
		},
	})
	if err != nil {
		panic(err) // only a stopped informer refuses a handler
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	a.killAll()
}

// observe takes in a Pod that exists: start it, or begin its graceful end.
func (a *Agent) observe(object *corev1.Pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	running := a.pods[object.UID]
	ending := object.DeletionTimestamp != nil
	switch {
	case running == nil && ending:
		go newPod(a, object).confirmDeletion() // never started here: nothing to stop
	case running == nil && !finished(object):
		running = newPod(a, object)
		a.pods[object.UID] = running
		go running.run()
	case running != nil && ending:
		running.terminate(gracePeriod(object))
	}
}

// observeGone takes in that a Pod no longer exists: whatever runs has no grace left.
func (a *Agent) observeGone(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if running := a.pods[uid]; running != nil {
		running.kill()
	}
}

func (a *Agent) forget(p *pod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pods, p.object.UID)
}

// find yields the Pod of that name, nil when this Node has none.
func (a *Agent) find(namespace, name string) *pod {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if p.object.Namespace == namespace && p.object.Name == name {
			return p
		}
	}
	return nil
}

func (a *Agent) killAll() {
	a.mu.Lock()
	remaining := make([]*pod, 0, len(a.pods))
	for _, running := range a.pods {
		running.kill()
		remaining = append(remaining, running)
	}
	a.mu.Unlock()
	for _, running := range remaining {
		<-running.released
	}
}

func finished(object *corev1.Pod) bool {
	return object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed
}

func gracePeriod(object *corev1.Pod) time.Duration {
	if seconds := object.DeletionGracePeriodSeconds; seconds != nil {
		return time.Duration(*seconds) * time.Second
	}
	return 0
}

func hostAndPort(server string) (string, string) {
	parsed, err := url.Parse(server)
	if err != nil {
		return server, "443"
	}
	if parsed.Port() == "" {
		return parsed.Hostname(), "443"
	}
	host, port, _ := net.SplitHostPort(parsed.Host)
	return host, port
}
