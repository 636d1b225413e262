package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var awsEnv = command{name: "aws-env", summary: "print what the shell needs for the AWS command line to use this bridge",
	example: "tidemill-bridge aws-env\n" +
		"export AWS_SHARED_CREDENTIALS_FILE=alice.ini; eval \"$(tidemill-bridge aws-env -ca ca.pem)\"\n" +
		"eval \"$(tidemill-bridge aws-env)\"; aws iot list-topic-rules",
	run: func(ctx context.Context, c *call) error {
		caFile := c.flags.String("ca", "",
			"`file` to write the bridge's CA to, for who may not read the data directory")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		cfg, err := c.loadConfig()
		if err != nil {
			return err
		}
		listens := cfg.HTTPS.Listen
		if err := c.with(ctx, func(a *client) error {
			if !a.live {
				return nil
			}
			var info admin.Info
			err := a.do(ctx, "GET", "/v1/info", nil, nil, &info)
			if listens = info.HTTPS; err == nil && *caFile != "" {
				err = a.saveCA(ctx, *caFile)
			}
			return err
		}); err != nil {
			return err
		}
		endpoint, err := endpointURL(listens)
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Join(cfg.DataDir, "pki"))
		if err != nil {
			return err
		}
		// Keys in the environment would go before those of the file.
		b := "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE\n"
		keys, ca := pki.AccessKeysFile(dir), pki.CAFile(dir)
		if !readable(keys) { // another user's: with a key of their own
			b += "# AWS_SHARED_CREDENTIALS_FILE is the file of your own key: tidemill-bridge access-key create " +
				"-o FILE\n"
			keys = ""
		}
		switch {
		case cfg.HTTPS.Cert != "": // whose CA the system knows, or the user
			ca = ""
		case *caFile != "":
			if ca, err = filepath.Abs(*caFile); err != nil {
				return err
			}
		case !readable(ca):
			b += "# AWS_CA_BUNDLE is a file that you may not read: tidemill-bridge aws-env -ca FILE writes another\n"
			ca = ""
		}
		for _, v := range [][2]string{
			{"AWS_SHARED_CREDENTIALS_FILE", keys}, {"AWS_CA_BUNDLE", ca},
			{"AWS_DEFAULT_REGION", cfg.Region}, {"AWS_REGION", cfg.Region}, {"AWS_ENDPOINT_URL", endpoint},
		} {
			if v[1] == "" {
				continue
			}
			b += "export " + v[0] + "=" + quoted(v[1]) + "\n"
		}
		b += "# Command lines before 1.29 and 2.13 also want: --endpoint-url \"$AWS_ENDPOINT_URL\"\n"
		_, err = fmt.Fprint(c.stdout, b)
		return err
	}}

// readable says whether this program may read a file.
func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrPermission)
	}
	return f.Close() == nil
}

// saveCA writes what clients of the bridge trust to a file.
func (a *client) saveCA(ctx context.Context, path string) error {
	var all []admin.OwnCA
	if err := a.do(ctx, "GET", "/v1/own-cas", nil, nil, &all); err != nil {
		return err
	}
	text := ""
	for _, ca := range all {
		text += ca.PEM
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// endpointURL is how a client on this machine reaches a listener.
func endpointURL(listens string) (string, error) {
	if listens == "" {
		return "", errors.New("https.listen: empty, so the AWS APIs are not served")
	}
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", errors.New("https.listen: port 0 is known when the bridge runs")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

// quoted is text as one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
