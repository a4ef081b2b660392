package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/enroll"
)

// enrolledFiles are the files of a certificate that this machine renews over the API, and the
// main server to ask. server is "" if the certificate was not enrolled and none is named.
func enrolledFiles(cfg Config, name, out, server string) (files enroll.Files, _ string, err error) {
	if err := checkFileName(name); err != nil {
		return files, "", err
	}
	dir := cmp.Or(certDir(cfg, name, out), ca.In(cfg.Data).Certs())
	files.Files = mtls.FilesIn(dir, name)
	if server == "" {
		server, err = files.Server()
	}
	return files, server, err
}

// renewOwn renews a certificate as its holder does: once, or until the command is ended.
func renewOwn(a call, files enroll.Files, name, server string, watch bool) error {
	if server == "" {
		return withHint(fmt.Errorf("nothing says which main server renews the certificate of %q", name), "name it with --server")
	}
	if err := pipeline.CheckMainAddress(server); err != nil {
		return usage(fmt.Errorf("--server: %w", err), "")
	}
	if _, err := mtls.ReadCertificates(files.Cert); errors.Is(err, fs.ErrNotExist) {
		return noCertificate(err, name)
	}
	if watch {
		a.note("%s is renewed when about two thirds of its life are over, by %s", files.Cert, server)
		(&enroll.Watcher{Files: files, Server: server, Log: slog.New(newNoteHandler(a.cmd))}).Run(a.ctx)
		return nil
	}
	leaf, err := enroll.Renew(a.ctx, files, server, nil)
	if err != nil {
		return err
	}
	return printIssued(a, name, &ca.Files{Certificate: &ca.Certificate{Leaf: leaf}, CertFile: files.Cert, KeyFile: files.Key})
}
