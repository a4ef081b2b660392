// Package mariadb runs a private MariaDB server for a test: in a temporary folder, on
// loopback, with a user of its own, and gone with the test's process.
package mariadb

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sealmq/sealmq/internal/testing/server"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 2 * time.Minute

// Server is a private server.
type Server struct {
	dir, data string
	port      int
	owner     *user.User // under whom it runs, if we are root
	password  string
	process   *server.Process
	databases atomic.Int64
}

// Require returns a server of start, which tests may share, or skips the test (server.Require).
func Require(t testing.TB, start func() (*Server, error)) *Server {
	t.Helper()
	return server.Require(t, start)
}

// Start makes a server and waits until it answers. The caller must Close it.
func Start() (*Server, error) {
	install, err := exec.LookPath("mariadb-install-db")
	if err == nil {
		_, err = exec.LookPath("mariadbd")
	}
	if err != nil {
		return nil, fmt.Errorf("mariadbd and mariadb-install-db: %w", server.ErrNotInstalled)
	}
	s := &Server{password: rand.Text() + `@:/%'"`} // what an address has to encode
	if s.dir, err = os.MkdirTemp("", "mariadb"); err != nil {
		return nil, err
	}
	s.data = filepath.Join(s.dir, "data")
	if os.Geteuid() == 0 { // it refuses to run as root
		for _, name := range []string{"mysql", "nobody"} {
			if s.owner, err = user.Lookup(name); err == nil {
				break
			}
		}
		if err == nil {
			err = s.giveAway(s.dir)
		}
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
	}
	// Temporary files are in a folder of its own: each server deletes, when it starts, what
	// looks like a temporary table in that folder.
	args := []string{"--no-defaults", "--datadir=" + s.data, "--tmpdir=" + s.dir, "--auth-root-authentication-method=normal", "--skip-test-db"}
	if s.owner != nil {
		args = append(args, "--user="+s.owner.Username)
	}
	out, err := exec.Command(install, args...).CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mariadb-install-db: %w\n%s", err, out), os.RemoveAll(s.dir))
	}
	if err := s.Restart(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.createUser(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) giveAway(path string) error {
	uid, err := strconv.Atoi(s.owner.Uid)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, -1)
}

// Restart starts the server, which must not run, with what it stored before.
func (s *Server) Restart() error {
	if s.port == 0 {
		var err error
		if s.port, err = server.Port(); err != nil {
			return err
		}
	}
	log := filepath.Join(s.dir, "log")
	args := []string{"--no-defaults", "--datadir=" + s.data, "--tmpdir=" + s.dir, "--socket=" + filepath.Join(s.dir, "socket"), "--port=" + strconv.Itoa(s.port),
		"--bind-address=127.0.0.1", "--pid-file=" + filepath.Join(s.dir, "pid"), "--log-error=" + log, "--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=256M"}
	db, err := sql.Open("mysql", s.dsn("root", "", ""))
	if err != nil {
		return err
	}
	defer db.Close()
	s.process, err = server.Start(exec.Command("mariadbd", args...), s.owner, log, startTimeout, db.PingContext)
	return err
}

func (s *Server) dsn(user, password, database string) string {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName = user, password, database
	c.Net, c.Addr = "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	c.InterpolateParams = true
	c.Logger = &mysql.NopLogger{}
	return c.FormatDSN()
}

// testUser is whom Database's addresses name.
const testUser = "test@user"

func (s *Server) createUser() error {
	return s.Exec("",
		"CREATE USER ?@'127.0.0.1' IDENTIFIED BY ?", []any{testUser, s.password},
		"GRANT ALL PRIVILEGES ON *.* TO ?@'127.0.0.1'", []any{testUser})
}

// Exec executes statements as root in a database: a statement, its arguments, and so on.
func (s *Server) Exec(database string, statements ...any) error {
	db, err := sql.Open("mysql", s.dsn("root", "", database))
	if err != nil {
		return err
	}
	defer db.Close()
	for i := 0; i < len(statements); i += 2 {
		if _, err := db.Exec(statements[i].(string), statements[i+1].([]any)...); err != nil {
			return err
		}
	}
	return nil
}

// Database makes an empty database and returns its address, with user and password, in the
// form mysql+pymysql://USER:PASSWORD@HOST:PORT/NAME.
func (s *Server) Database() (address, name string, err error) {
	name = "test_" + strconv.FormatInt(s.databases.Add(1), 10)
	if err := s.Exec("", "CREATE DATABASE "+name+" CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", []any(nil)); err != nil {
		return "", "", err
	}
	return fmt.Sprintf("mysql+pymysql://%s:%s@127.0.0.1:%d/%s", url.PathEscape(testUser), url.QueryEscape(s.password), s.port, name), name, nil
}

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() { s.process.Kill() }

// Close kills the server and removes its files.
func (s *Server) Close() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}

// DSN is a database's address for the driver github.com/go-sql-driver/mysql, as root.
func (s *Server) DSN(database string) string { return s.dsn("root", "", database) }
