package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/mtls"
)

// TestBackupKilled kills a node while it makes a backup: the next one lists that as failed, nobody
// can fetch it, and the next backup takes its place.
func TestBackupKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts nodes")
	}
	t.Parallel()
	dir := t.TempDir()
	folder, data, passphrase := filepath.Join(dir, "backups"), filepath.Join(dir, "data"), filepath.Join(dir, "pass")
	if err := os.WriteFile(passphrase, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() (*brokerproc.Process, *mainapi.ClientWithResponses) {
		t.Helper()
		node, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: program.Path(t), Data: data, Roles: []string{"broker", "main"}, Log: t.Output(),
			Env: []string{"SEALMQ_BACKUP_FOLDER=" + folder, "SEALMQ_BACKUP_PASSPHRASE_FILE=" + passphrase}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Kill)
		p := ca.In(data)
		conf, err := mtls.ClientConfig(mtls.Files{Cert: p.Cert(ca.AdminName), Key: p.Key(ca.AdminName), CA: p.CA}, mtls.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
		t.Cleanup(client.CloseIdleConnections)
		api, err := mainapi.NewClientWithResponses("https://"+node.MainAddr, mainapi.WithHTTPClient(client))
		if err != nil {
			t.Fatal(err)
		}
		return node, api
	}
	begin := func(api *mainapi.ClientWithResponses) (file string) {
		t.Helper()
		r, err := api.StartBackupWithResponse(t.Context())
		if err != nil || r.JSON202 == nil {
			t.Fatalf("no backup is begun: %v %s", err, r.Body)
		}
		return r.JSON202.Filename
	}
	list := func(api *mainapi.ClientWithResponses) []mainapi.Backup {
		t.Helper()
		r, err := api.ListBackupsWithResponse(t.Context())
		if err != nil || r.JSON200 == nil {
			t.Fatalf("no list of backups: %v %s", err, r.Body)
		}
		return r.JSON200.Items
	}

	var killed, part string
	for caught := false; !caught; { // on a busy machine a backup may end before the kill
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		node, api := start()
		killed = begin(api)
		part = filepath.Join(folder, killed+".part")
		for !exists(part) { // then it stays until the keys are encrypted, which takes its time on purpose
			l := list(api)
			if l[0].State == mainapi.BackupStateComplete {
				break
			}
			if l[0].State != mainapi.BackupStateRunning {
				t.Fatalf("no backup is made: %+v", l)
			}
		}
		node.Kill()
		caught = exists(part)
	}

	_, api := start()
	if l := list(api); len(l) != 1 || l[0].Filename != killed || l[0].State != mainapi.BackupStateFailed || l[0].Error != "it was interrupted" {
		t.Errorf("after the start: %+v", l)
	}
	if r, err := api.GetBackupWithResponse(t.Context(), killed); err != nil || r.StatusCode() != http.StatusNotFound {
		t.Errorf("half a backup is given: %v, %d", err, r.StatusCode())
	}
	next := begin(api)
	l := list(api)
	for l[0].State == mainapi.BackupStateRunning {
		l = list(api)
	}
	if len(l) != 1 || l[0].Filename != next || l[0].State != mainapi.BackupStateComplete || exists(part) {
		t.Errorf("after the next backup: %+v", l)
	}
}
