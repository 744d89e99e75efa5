// Command credentials makes a cluster's PKI and kubeconfigs in one directory.
//
//	ca.crt ca.key                     signs all certificates
//	apiserver.crt apiserver.key       the API server's serving certificate
//	service-account.key .pub          sign and check ServiceAccount tokens
//	<client>.kubeconfig               one per entry of clients, credentials inside
//	serval-token.kubeconfig           names ca.crt and serval.token as files
//
// serval.token itself is written by scripts/cluster, which asks the API server for it.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// client is a user of the API server: a kubeconfig's base name, and what RBAC will see.
type client struct{ file, user, group string }

var clients = []client{
	{"admin", "admin", "system:masters"},
	{"controller-manager", "system:kube-controller-manager", ""},
	{"serval", "serval", ""},
}

// authority signs with one key; files go to dir.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "", "existing directory to write to, absolute")
	server := flag.String("server", "", "URL of the API server")
	addresses := flag.String("addresses", "", "the API server's addresses, comma-separated")
	flag.Parse()
	if !filepath.IsAbs(*dir) || *server == "" || *addresses == "" {
		log.Fatal("credentials: -dir (absolute), -server and -addresses are required")
	}
	if err := makeAll(*dir, *server, *addresses); err != nil {
		log.Fatalf("credentials: %v", err)
	}
}

func makeAll(dir, server, addresses string) error {
	ca, err := newAuthority(dir)
	if err != nil {
		return err
	}
	if err := ca.issueServer(addresses); err != nil {
		return err
	}
	if err := ca.makeTokenKeys(); err != nil {
		return err
	}
	for _, c := range clients {
		if err := ca.issueClient(c, server); err != nil {
			return err
		}
	}
	cluster := fmt.Sprintf("{server: %q, certificate-authority: %q}", server, dir+"/ca.crt")
	user := fmt.Sprintf("{tokenFile: %q}", dir+"/serval.token")
	return writeKubeconfig(filepath.Join(dir, "serval-token.kubeconfig"), cluster, user)
}

func newAuthority(dir string) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	ca := &authority{dir: dir, key: key}
	ca.certificate = ca.template("serval-cluster-ca", "")
	ca.certificate.IsCA = true
	ca.certificate.BasicConstraintsValid = true
	ca.certificate.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template := ca.certificate // self-signed: its own parent
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if ca.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return ca, ca.write("ca", encode("CERTIFICATE", der), key)
}

func (ca *authority) template(name, organization string) *x509.Certificate {
	ca.serial++
	subject := pkix.Name{CommonName: name}
	if organization != "" {
		subject.Organization = []string{organization}
	}
	return &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial),
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// issue signs a certificate and yields it in PEM with its key.
func (ca *authority) issue(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, &key.PublicKey, ca.key)
	return encode("CERTIFICATE", der), key, err
}

func (ca *authority) issueServer(addresses string) error {
	template := ca.template("kube-apiserver", "")
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	for address := range strings.SplitSeq(addresses, ",") {
		parsed := net.ParseIP(address)
		if parsed == nil {
			return fmt.Errorf("not an address: %q", address)
		}
		template.IPAddresses = append(template.IPAddresses, parsed)
	}
	certificate, key, err := ca.issue(template)
	if err != nil {
		return err
	}
	return ca.write("apiserver", certificate, key)
}

func (ca *authority) issueClient(c client, server string) error {
	template := ca.template(c.user, c.group)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	certificate, key, err := ca.issue(template)
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	inline := base64.StdEncoding.EncodeToString
	cluster := fmt.Sprintf("{server: %q, certificate-authority-data: %s}",
		server, inline(encode("CERTIFICATE", ca.certificate.Raw)))
	user := fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}",
		inline(certificate), inline(private))
	return writeKubeconfig(filepath.Join(ca.dir, c.file+".kubeconfig"), cluster, user)
}

func (ca *authority) makeTokenKeys() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	path := filepath.Join(ca.dir, "service-account")
	if err := os.WriteFile(path+".pub", encode("PUBLIC KEY", public), 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".key", private, 0o600)
}

func (ca *authority) write(name string, certificate []byte, key *ecdsa.PrivateKey) error {
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	path := filepath.Join(ca.dir, name)
	if err := os.WriteFile(path+".crt", certificate, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".key", private, 0o600)
}

func writeKubeconfig(path, cluster, user string) error {
	text := "apiVersion: v1\nkind: Config\n" +
		"clusters: [{name: cluster, cluster: " + cluster + "}]\n" +
		"users: [{name: user, user: " + user + "}]\n" +
		"contexts: [{name: context, context: {cluster: cluster, user: user}}]\n" +
		"current-context: context\n"
	return os.WriteFile(path, []byte(text), 0o600)
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return encode("PRIVATE KEY", der), err
}
