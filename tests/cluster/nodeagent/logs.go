// Container logs: one file per container, and the kubelet's endpoint that the API server reads
// for `kubectl logs` and for the pods/log subresource.
//
// A line in a file is its time in RFC 3339 with nanoseconds, a space, and what was written.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	logFollowInterval = 100 * time.Millisecond
	logStampLayout    = "2006-01-02T15:04:05.000000000Z07:00" // fixed width: sorts and cuts well
)

// logFile is where a container's output goes, that of all its runs.
func (p *pod) logFile(container string) string {
	name := strings.Join([]string{
		p.object.Namespace, p.object.Name, string(p.object.UID), container}, "_")
	return filepath.Join(p.agent.config.LogDir, name+".log")
}

// collectLog copies what arrives at reader to the container's file until the last writer is
// gone. It closes reader.
func (c *container) collectLog(reader io.ReadCloser) error {
	path := c.pod.logFile(c.spec.Name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	go func() {
		defer func() { _ = file.Close(); _ = reader.Close() }()
		lines := bufio.NewReader(reader)
		for {
			line, err := lines.ReadString('\n')
			if line != "" {
				stamp := time.Now().UTC().Format(logStampLayout)
				_, _ = file.WriteString(stamp + " " + strings.TrimSuffix(line, "\n") + "\n")
			}
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// serveLogs answers on the Node's kubelet port; it does not return.
func (a *Agent) serveLogs() {
	certificate, err := selfSigned(a.config.NodeName)
	if err != nil {
		log.Fatalf("certificate of the log endpoint: %v", err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", a.handleLogs)
	address := net.JoinHostPort(a.config.NodeAddress.String(), strconv.Itoa(kubeletPort))
	server := http.Server{Addr: address, Handler: routes,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	log.Fatalf("log endpoint: %v", server.ListenAndServeTLS("", ""))
}

func (a *Agent) handleLogs(w http.ResponseWriter, r *http.Request) {
	source := a.find(r.PathValue("namespace"), r.PathValue("pod"))
	if source == nil {
		http.Error(w, "no such pod on this node", http.StatusNotFound)
		return
	}
	file, err := os.Open(source.logFile(r.PathValue("container")))
	if errors.Is(err, fs.ErrNotExist) {
		http.Error(w, "no log yet", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = file.Close() }()
	query := r.URL.Query()
	reader := bufio.NewReader(file)
	if err := skipToTail(reader, file, query); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	since, stamped := sinceTime(query), query.Get("timestamps") == "true"
	follow := query.Get("follow") == "true"
	var line string
	for r.Context().Err() == nil {
		over := closed(source.released)
		read, err := reader.ReadString('\n')
		line += read // a part of a line when err is io.EOF
		if err == nil {
			writeLogLine(w, line, since, stamped)
			line = ""
			continue
		}
		if !follow || over {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(logFollowInterval)
	}
}

func writeLogLine(w io.Writer, line string, since time.Time, stamped bool) {
	stamp, text, _ := strings.Cut(line, " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && at.Before(since) {
		return
	}
	if stamped {
		text = line
	}
	_, _ = io.WriteString(w, text)
}

// sinceTime is the oldest moment the request wants, the zero time for all.
func sinceTime(query url.Values) time.Time {
	if at, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil {
		return at
	}
	if seconds, err := strconv.Atoi(query.Get("sinceSeconds")); err == nil {
		return time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	return time.Time{}
}

// skipToTail moves past all but the last tailLines lines.
func skipToTail(reader *bufio.Reader, file io.ReadSeeker, query url.Values) error {
	wanted, err := strconv.Atoi(query.Get("tailLines"))
	if err != nil {
		return nil // not asked for
	}
	total := 0
	for ; err == nil; total++ {
		_, err = reader.ReadString('\n')
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	reader.Reset(file)
	for range total - 1 - wanted { // the last read counted hit the end
		if _, err := reader.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

// selfSigned makes a certificate for the log endpoint: the API server does not check it, as it
// does not check a kubelet's unless told to.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
