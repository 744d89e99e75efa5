// Readiness: a container's readinessProbe; without one, the first socket it listens on.
//
// A kubelet calls a container without a probe ready as soon as it runs. That is too early for
// tests, which would then race with the program's start.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	listenPollInterval = 25 * time.Millisecond
	// A program that listens on nothing (a Job's, say) is ready after this long.
	listenPatience = 5 * time.Second
	// Until a container was ready once, its probe runs at least this often, whatever its period.
	firstProbeInterval = 500 * time.Millisecond
)

// watchReadiness keeps the container's ready mark true to the facts until ctx ends.
func (c *container) watchReadiness(ctx context.Context, pid int) {
	if c.spec.ReadinessProbe == nil {
		awaitListening(ctx, pid)
		if ctx.Err() == nil {
			c.setReady(true)
		}
		return
	}
	probe := c.spec.ReadinessProbe
	if !sleep(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	successes, failures := int32(0), int32(0)
	everReady := false
	for {
		if err := c.probe(ctx, probe); err == nil {
			successes, failures = successes+1, 0
		} else {
			successes, failures = 0, failures+1
		}
		if ctx.Err() != nil {
			return
		}
		if successes >= max(probe.SuccessThreshold, 1) {
			everReady = true
			c.setReady(true)
		} else if failures >= max(probe.FailureThreshold, 1) {
			c.setReady(false)
		}
		pause := time.Duration(max(probe.PeriodSeconds, 1)) * time.Second
		if !everReady {
			pause = min(pause, firstProbeInterval)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// watchLiveness closes dead when the liveness probe has failed as often as it may, until ctx ends.
func (c *container) watchLiveness(ctx context.Context, dead chan struct{}) {
	probe := c.spec.LivenessProbe
	if probe == nil || !sleep(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	for failures := int32(0); sleep(ctx, time.Duration(max(probe.PeriodSeconds, 1))*time.Second); {
		if err := c.probe(ctx, probe); err == nil {
			failures = 0
		} else if failures++; failures >= max(probe.FailureThreshold, 1) {
			if ctx.Err() == nil {
				close(dead)
			}
			return
		}
	}
}

// probe asks once; nil means ready.
func (c *container) probe(ctx context.Context, probe *corev1.Probe) error {
	timeout := time.Duration(max(probe.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if probe.TCPSocket != nil {
		target, err := c.target(probe.TCPSocket.Host, probe.TCPSocket.Port)
		if err != nil {
			return err
		}
		var dialer net.Dialer
		connection, err := dialer.DialContext(ctx, "tcp", target)
		if err == nil {
			_ = connection.Close()
		}
		return err
	}
	return c.probeHTTP(ctx, probe.HTTPGet)
}

// probeClient follows no redirect and trusts any certificate, as a kubelet does.
var probeClient = http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c *container) probeHTTP(ctx context.Context, get *corev1.HTTPGetAction) error {
	target, err := c.target(get.Host, get.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	url := fmt.Sprintf("%s://%s/%s", scheme, target, strings.TrimPrefix(get.Path, "/"))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, header := range get.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			request.Host = header.Value
			continue
		}
		request.Header.Add(header.Name, header.Value)
	}
	response, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

// target is where a probe connects: the Pod's address unless it names a host.
func (c *container) target(host string, port intstr.IntOrString) (string, error) {
	if host == "" {
		host = c.pod.box.address.String()
	}
	if port.Type == intstr.Int {
		return net.JoinHostPort(host, strconv.Itoa(port.IntValue())), nil
	}
	for _, named := range c.spec.Ports {
		if named.Name == port.StrVal {
			return net.JoinHostPort(host, strconv.Itoa(int(named.ContainerPort))), nil
		}
	}
	return "", fmt.Errorf("no port named %q", port.StrVal)
}

// awaitListening returns when the process has a listening socket, or patience ends.
func awaitListening(ctx context.Context, pid int) {
	end := time.Now().Add(listenPatience)
	for time.Now().Before(end) && !listens(pid) && sleep(ctx, listenPollInterval) {
	}
}

// listens tells whether a TCP socket of the process listens or a UDP socket is bound. The
// tables in /proc are the whole namespace's: a socket counts if the process holds it.
func listens(pid int) bool {
	waiting := map[string]bool{}
	for table, state := range map[string]string{
		"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"} {
		content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		for line := range strings.Lines(string(content)) {
			const stateField, inodeField = 3, 9 // of proc_net_tcp(5)
			if fields := strings.Fields(line); len(fields) > inodeField && fields[stateField] == state {
				waiting["socket:["+fields[inodeField]+"]"] = true
			}
		}
	}
	if len(waiting) == 0 {
		return false
	}
	descriptors, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, descriptor := range descriptors {
		if link, _ := os.Readlink(descriptor); waiting[link] {
			return true
		}
	}
	return false
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, duration time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(duration):
		return true
	}
}
