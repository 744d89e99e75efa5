// Command nodeagent stands in for kubelet on one Node, and one of them for kube-scheduler.
//
// In: Pods, Secrets and ConfigMaps of a real API server. Out: one network namespace and one
// chroot with a static binary per container, Pod status as a kubelet would write it, and
// container logs on port 10250. It runs inside the network namespace of its Node.
//
//	scheduler.go    binds Pods that have no Node
//	node.go         registers the Node
//	agent.go        from watch events to running pods
//	pod.go          one Pod from sandbox to deletion
//	container.go    one container: start, restart, stop
//	root.go         a container's file tree
//	environment.go  a container's environment, command and arguments
//	volumes.go      Secrets, ConfigMaps, tokens as files; emptyDirs
//	confine.go      mounts, user, capabilities: how a process becomes a container
//	cgroup.go       memory limits
//	network.go      namespaces, veth pairs, addresses
//	readiness.go    readiness and liveness probes; without one, "listens"
//	status.go       Pod status and how it reaches the API server
//	logs.go         log files and the kubelet's log endpoint
package main

import (
	"context"
	"flag"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// Config is what the command line says; it does not change after start.
type Config struct {
	NodeName      string
	NodeAddress   netip.Addr   // the Node's InternalIP; pods use it as their gateway
	PodRange      netip.Prefix // this Node's share of ClusterRange
	ClusterRange  netip.Prefix // all pods of all Nodes: one layer-2 segment
	Bridge        string       // the bridge, in the agent's own namespace, that joins pods
	NetnsPrefix   string       // pods' namespaces are <prefix><third octet>-<fourth octet>
	StateDir      string       // one directory per pod UID; gone when the pod is
	LogDir        string       // one file per container; stays
	ImageDir      string       // static binaries, named by the image's last path element
	APIServerHost string       // what pods find in KUBERNETES_SERVICE_HOST
	APIServerPort string
	Schedule      bool   // whether this agent also binds Pods
	Cgroup        string // the cgroup, below the mount, that containers' own are made in
	MemoryDir     string // directory in memory for emptyDirs of that medium
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "container" {
		enterContainer(os.Args[2])
	}
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	config, kubeconfig := parseFlags()
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		log.Fatalf("kubeconfig: %v", err)
	}
	rest.QPS, rest.Burst = 500, 1000
	config.APIServerHost, config.APIServerPort = hostAndPort(rest.Host)
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		log.Fatalf("client: %v", err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	agent := NewAgent(config, client)
	go agent.serveLogs()
	agent.registerNode(ctx)
	if config.Schedule {
		startScheduler(ctx, client)
	}
	agent.Run(ctx)
}

func parseFlags() (Config, string) {
	var c Config
	kubeconfig := flag.String("kubeconfig", "", "an administrator's kubeconfig")
	flag.StringVar(&c.NodeName, "node", "node-1", "name of the Node")
	address := flag.String("node-address", "10.244.0.1", "the Node's InternalIP")
	podRange := flag.String("pod-range", "10.244.16.0/20", "addresses for this Node's pods")
	clusterRange := flag.String("cluster-range", "10.244.0.0/16", "addresses of all pods")
	flag.StringVar(&c.Bridge, "bridge", "br0", "bridge that joins the pods")
	flag.StringVar(&c.NetnsPrefix, "netns-prefix", "pod-", "prefix of pods' namespaces")
	flag.StringVar(&c.StateDir, "state-dir", "", "directory for containers' file trees")
	flag.StringVar(&c.LogDir, "log-dir", "", "directory for containers' logs")
	flag.StringVar(&c.ImageDir, "image-dir", "", "directory of static binaries")
	flag.StringVar(&c.Cgroup, "cgroup", "serval-cluster", "cgroup for containers with limits")
	flag.StringVar(&c.MemoryDir, "memory-dir", "", "directory for emptyDirs in memory")
	flag.BoolVar(&c.Schedule, "schedule", true, "also bind Pods that have no Node")
	flag.Parse()
	for name, value := range map[string]string{"kubeconfig": *kubeconfig,
		"state-dir": c.StateDir, "log-dir": c.LogDir, "image-dir": c.ImageDir, "memory-dir": c.MemoryDir} {
		if value == "" {
			log.Fatalf("-%s is required", name)
		}
	}
	c.NodeAddress = netip.MustParseAddr(*address)
	c.PodRange = netip.MustParsePrefix(*podRange).Masked()
	c.ClusterRange = netip.MustParsePrefix(*clusterRange).Masked()
	if !c.ClusterRange.Contains(c.PodRange.Addr()) || !c.ClusterRange.Contains(c.NodeAddress) {
		log.Fatalf("-cluster-range %s does not cover the Node and its pods", c.ClusterRange)
	}
	return c, *kubeconfig
}
