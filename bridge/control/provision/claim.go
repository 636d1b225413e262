package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A TemporaryClaim is a claim certificate for one template that is deleted after
// registry.ClaimLife, made for somebody who installs a device.
type TemporaryClaim struct {
	ID        string
	PEM       string
	Key       string // PEM
	PublicKey string // PEM
	Expires   time.Time
}

// CreateClaim makes a temporary claim. Its policy, made once for each template,
// lets it do no more than be provisioned by it.
func (s *Service) CreateClaim(ctx context.Context, template string) (*TemporaryClaim, error) {
	var issued *pki.Issued
	out := &TemporaryClaim{}
	err := inRegistry.Update(ctx, s.registry, func(tx records) error {
		tp, err := tx.Template(template)
		if err != nil {
			return err
		}
		if tp.Type != registry.FleetProvisioning {
			return fmt.Errorf("provisioning template %s: %w: claims are for templates of type %s", template,
				registry.ErrInvalid, registry.FleetProvisioning)
		}
		name := registry.ClaimPolicy + template
		if _, err := tx.Policy(name); errors.Is(err, registry.ErrNotFound) {
			err = tx.CreatePolicy(name, s.claimPolicy(template, claimClients))
			if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		if issued, err = s.issuer.Issue("Tidemill claim of " + template); err != nil {
			return err
		}
		if _, err := tx.RegisterCertificate(issued.CertPEM, registry.Active); err != nil {
			return err
		}
		if err := tx.AttachPolicy(name, issued.ID); err != nil {
			return err
		}
		k, err := tx.AddToken(hashOf("claim "+issued.ID), registry.Token{Certificate: issued.ID, Claim: true})
		out.Expires = k.Expires
		return err
	})
	if err != nil {
		return nil, err
	}
	out.ID, out.PEM, out.Key = issued.ID, string(issued.CertPEM), string(issued.KeyPEM)
	out.PublicKey, err = publicKey(issued.CertPEM)
	return out, err
}

func publicKey(text []byte) (string, error) {
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(cert.PublicKey.(*ecdsa.PublicKey))
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

// claimClients are the client ids of connections with a claim: whoever holds one
// of many devices' certificate must not be able to take the place of a thing.
const claimClients = "client/claim-*"

// TightenClaims gives the policies of claims that a bridge of before has made, by
// which any client id would do, the document that they would have now. Others, and
// those that somebody has changed, stay as they are.
func (s *Service) TightenClaims() error {
	var tightened []string
	find := func(tx records) error {
		tightened = nil
		for after, more := registry.ClaimPolicy, true; more; {
			page, next, err := tx.Policies(after, 100)
			if err != nil {
				return err
			}
			for _, p := range page {
				template, ok := strings.CutPrefix(p.Name, registry.ClaimPolicy)
				if !ok {
					return nil // they are in order
				}
				doc, err := tx.PolicyDocument(p.Name, 0)
				if err != nil {
					return err
				}
				if string(doc) == string(s.claimPolicy(template, "client/*")) {
					tightened = append(tightened, p.Name)
				}
			}
			after, more = next, next != ""
		}
		return nil
	}
	if err := inRegistry.View(s.registry, find); err != nil || len(tightened) == 0 {
		return err
	}
	err := inRegistry.Update(byItself("TightenClaims"), s.registry, func(tx records) error {
		if err := find(tx); err != nil {
			return err
		}
		for _, name := range tightened {
			if err := tx.PutPolicy(name,
				s.claimPolicy(strings.TrimPrefix(name, registry.ClaimPolicy), claimClients)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.log.Warn("claims may connect with client ids that begin with claim- alone now", "policies", tightened)
	}
	return err
}

// claimPolicy allows what a device with a claim does.
func (s *Service) claimPolicy(template, clients string) []byte {
	type statement struct {
		Effect   string
		Action   []string
		Resource []string
	}
	var topics, filters []string
	for _, t := range []string{createTopic, requestTopic, provisionTopic + template + "/provision"} {
		topics = append(topics, s.o.ARN("topic/"+t+"/*"))
		filters = append(filters, s.o.ARN("topicfilter/"+t+"/*"))
	}
	doc, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []statement{ // cannot fail
		{"Allow", []string{"iot:Connect"}, []string{s.o.ARN(clients)}},
		{"Allow", []string{"iot:Publish", "iot:Receive"}, topics},
		{"Allow", []string{"iot:Subscribe"}, filters},
	}})
	return []byte(strings.TrimSpace(string(doc)))
}
