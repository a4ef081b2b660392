package main

import (
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// components are the names of the roles in metrics.
var components = map[string]struct {
	name        string
	certificate sealmq.Role
}{
	"broker": {"broker", sealmq.RoleServer},
	"proxy":  {"proxy", sealmq.RoleProxy},
	"worker": {"worker", sealmq.RoleWorker},
	"main":   {"main_server", sealmq.RoleServer},
	"portal": {"portal", sealmq.RoleServer},
}

// registryOf returns the registry of a role's metrics, with those that every role has. It may
// be called before the node has its files.
func (n *node) registryOf(role string) *prometheus.Registry {
	if reg := n.registries[role]; reg != nil {
		return reg
	}
	reg, c := prometheus.NewRegistry(), components[role]
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("broker_build_info", "Always 1; the labels say which role and version this is.",
		prometheus.Labels{"component": c.name, "version": buildVersion().Version}, func() float64 { return 1 })
	certificate := n.chainOf(c.certificate)
	if own := n.cfg.Portal.Cert; role == "portal" && own != "" {
		certificate = func() []*x509.Certificate {
			chain, _ := mtls.ReadCertificates(own) // nil if it cannot be read
			return chain
		}
	}
	if role == "portal" && n.acme != nil {
		certificate = n.acme.first
	}
	gauge("broker_certificate_expiry_timestamp_seconds", "When the role's own certificate expires, in seconds since 1970; 0 if it cannot be read.",
		prometheus.Labels{"name": c.name}, func() float64 {
			if chain := certificate(); len(chain) > 0 {
				return float64(chain[0].NotAfter.Unix())
			}
			return 0
		})
	gauge("sealmq_certificate_lifetime_seconds", "How long the role's own certificate is valid from its issue to its end; 0 if it cannot be read.",
		prometheus.Labels{"name": c.name}, func() float64 {
			if chain := certificate(); len(chain) > 0 {
				from, to := mtls.Life(chain[0])
				return to.Sub(from).Seconds()
			}
			return 0
		})
	if role != "main" { // which issues its own
		reg.MustRegister(n.renewalCounters(c.certificate)...)
	}
	gauge("sealmq_disk_free_bytes", "Free space in the file system of the data folder; -1 if it cannot be read.", nil, func() float64 {
		free, err := durable.OS().FreeBytes(n.cfg.Data)
		if err != nil {
			return -1
		}
		return float64(free)
	})
	gauge("sealmq_disk_min_free_bytes", "With less free space the broker refuses publishes (storage.min_free_bytes).", nil,
		func() float64 { return float64(n.cfg.Storage.MinFreeBytes) })
	gauge("sealmq_revoked_certificates", "Entries of the current revocation list.", nil, func() float64 { return float64(n.revoked.Len()) })
	gauge("sealmq_revocation_list_problems", "Files of revocations that are not in force, and their lines that are ignored.", nil,
		func() float64 { return float64(len(n.revoked.Problems())) })
	gauge("sealmq_revocations_age_seconds", "How long ago the main server last said what is revoked; 0 on a node that has the list itself.", nil,
		func() float64 { return n.revoked.Age().Seconds() })
	n.logs.register(reg, role)
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if n.registries == nil {
		n.registries = make(map[string]*prometheus.Registry)
	}
	n.registries[role] = reg
	return reg
}

// crlLookEvery is how often the file of the CRL is read for metrics.
const crlLookEvery = time.Minute

// crlCollector shows until when the CRL for other programs is good.
func (n *node) crlCollector() prometheus.Collector {
	var until cached.Value[float64]
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealmq_crl_next_update_timestamp_seconds",
		Help: "Until when the CRL in the data folder is good, in seconds since 1970; 0 if there is none."}, func() float64 {
		return until.Get(crlLookEvery, func() (float64, error) { return crlUntil(ca.In(n.cfg.Data).CRL), nil })
	})
}

func crlUntil(file string) float64 {
	data, err := durable.ReadFile(durable.OS(), file, trust.MaxListBytes)
	if err != nil {
		return 0
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return 0
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return 0
	}
	return float64(list.NextUpdate.Unix())
}
