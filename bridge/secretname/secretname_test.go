package secretname

import "testing"

func TestIs(t *testing.T) {
	for name, want := range map[string]bool{"Password": true, "HECToken": true, "AccessKey": true, "X-Api-Key": true,
		"sasl.password": true, "private_key": true, "AccessKeyId": false, "tokenKeyName": false, "Username": false,
		"SecretsManagerConfiguration": false, "": false} {
		if Is(name) != want {
			t.Errorf("%q is a secret: %t, want %t", name, !want, want)
		}
	}
}
