// The stand-in for kube-scheduler: every Pod without a Node goes to the one Node there is.
package main

import (
	"context"
	"log"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// startScheduler binds Pods to node until ctx ends. Several Nodes want a choice in bind.
func startScheduler(ctx context.Context, client kubernetes.Interface, node string) {
	unbound := informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", "").String()
	})
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, unbound)
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(
		cache.ResourceEventHandlerFuncs{AddFunc: func(object any) {
			go bind(ctx, client, object.(*corev1.Pod), node)
		}})
	if err != nil {
		panic(err) // only a stopped informer refuses a handler
	}
	factory.Start(ctx.Done())
}

// bind binds one Pod, and asks again while the API server does not answer.
func bind(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, node string) {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
	for ctx.Err() == nil && pod.DeletionTimestamp == nil {
		err := client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		log.Printf("bind %s/%s: %v", pod.Namespace, pod.Name, err)
		time.Sleep(apiRetryInterval)
	}
}
