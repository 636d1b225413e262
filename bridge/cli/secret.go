package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/control/secrets"
)

var secretPut = command{name: "secret put", args: "NAME",
	summary: "give a secret of rules (get_secret) a value, from the terminal, standard input or a file; " +
		"the value of before is kept",
	example: "tidemill-bridge secret put line/api-key\ntidemill-bridge secret put line/api -file api.json\n" +
		"tidemill-bridge secret put blob -binary < key.der",
	run: func(ctx context.Context, c *call) error {
		file := c.flags.String("file", "", "a `file` with the value")
		binary := c.flags.Bool("binary", false, "it is bytes (SecretBinary), not text")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		value, err := readSecret(*file, *binary, c.stderr)
		if err != nil {
			return fmt.Errorf("secret put: %w", err)
		}
		return c.putSecret(ctx, c.args[0], value, *binary)
	}}

// readSecret reads a value; the line end behind a text is no part of it.
func readSecret(file string, binary bool, out io.Writer) ([]byte, error) {
	in := os.Stdin
	switch {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	case isTerminal(in):
		text, err := askPassword(in, out)
		return []byte(text), err
	}
	value, err := io.ReadAll(io.LimitReader(in, secrets.MaxValue+2))
	if !binary {
		value = bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r"))
	}
	return value, err
}

func (c *call) putSecret(ctx context.Context, name string, value []byte, binary bool) error {
	if len(value) == 0 || len(value) > secrets.MaxValue {
		return secrets.ErrTooLarge
	}
	query := url.Values{"name": {name}, "binary": {strconv.FormatBool(binary)}}
	return c.with(ctx, func(a *client) error {
		return a.do(ctx, "PUT", "/v1/secrets", query, bytes.NewReader(value), nil)
	})
}

var secretList = command{name: "secret list", summary: "list the secrets of rules, without their values",
	example: "tidemill-bridge secret list",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return getAndPrint(ctx, c, *asJSON, "/v1/secrets", nil, func(all []secrets.Info) error {
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SECRET\tKIND\tCHANGED\tPREVIOUS\tSTATE")
			for _, s := range all {
				kind, previous, state := "text", "-", "ok"
				if s.Binary {
					kind = "binary"
				}
				if s.Previous {
					previous = "kept"
				}
				if s.Error != "" {
					state = "refused: " + s.Error
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, kind, s.Changed.Format(time.RFC3339), previous, state)
			}
			return w.Flush()
		})
	}}

var secretRotate = command{name: "secret rotate", args: "NAME",
	summary: "give a secret a random text and print that once, for the other end; the value of before is kept",
	example: "tidemill-bridge secret rotate line/api-key\ntidemill-bridge secret rotate line/api-key -length 64",
	run: func(ctx context.Context, c *call) error {
		length := c.flags.Int("length", 32, "`characters`, of 6 random bits each; 16 to 4096")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if *length < 16 || *length > 4096 {
			return usagef("secret rotate: -length %d, want 16 to 4096", *length)
		}
		value := secrets.Random(*length)
		if err := c.putSecret(ctx, c.args[0], []byte(value), false); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c.stdout, value); err != nil {
			return errors.Join(err, errors.New("the secret is changed: secret restore makes the value of before "+
				"current"))
		}
		return nil
	}}

var secretRestore = command{name: "secret restore", args: "NAME",
	summary: "make the value of before the current one, and the current the one of before",
	example: "tidemill-bridge secret restore line/api-key",
	run:     func(ctx context.Context, c *call) error { return c.onSecret(ctx, "POST", "/v1/secrets/restore") }}

var secretDelete = command{name: "secret delete", args: "NAME",
	summary: "delete a secret with its value of before; rules that ask for it get Undefined",
	example: "tidemill-bridge secret delete line/api-key",
	run:     func(ctx context.Context, c *call) error { return c.onSecret(ctx, "DELETE", "/v1/secrets") }}

func (c *call) onSecret(ctx context.Context, method, path string) error {
	if err := c.parse(1, 1); err != nil {
		return err
	}
	return c.with(ctx, func(a *client) error {
		return a.do(ctx, method, path, url.Values{"name": {c.args[0]}}, nil, nil)
	})
}
