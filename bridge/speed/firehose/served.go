package firehose

import "fmt"

// unserved is what documents may ask for that is not delivered yet, by the
// member that asks for it. An entry leaves with what serves it.
var unserved = []struct {
	member string
	asked  func(*Config) bool
}{
	{"RedshiftDestinationConfiguration", func(c *Config) bool { return c.Kind == ToRedshift }},
	{"ElasticsearchDestinationConfiguration", func(c *Config) bool { return c.Kind == Elasticsearch }},
	{"AmazonopensearchserviceDestinationConfiguration", func(c *Config) bool { return c.Kind == OpenSearch }},
	{"HttpEndpointDestinationConfiguration", func(c *Config) bool { return c.Kind == ToEndpoint }},
	{"SplunkDestinationConfiguration", func(c *Config) bool { return c.Kind == ToSplunk }},
	{"S3BackupMode", func(c *Config) bool { return c.SourceBackup != nil }},
	{"DataFormatConversionConfiguration", func(c *Config) bool { return c.Conversion != nil }},
	{"DynamicPartitioningConfiguration", func(c *Config) bool { return c.Partitioning != nil }},
	{"Processors: Lambda", func(c *Config) bool { return c.Processing.Lambda != nil }},
	{"Processors: Decompression", func(c *Config) bool { return c.Processing.Decompress }},
	{"Processors: CloudWatchLogProcessing", func(c *Config) bool { return c.Processing.LogEvents }},
	{"CompressionFormat: other than GZIP", func(c *Config) bool { return c.Objects.Compression.Other() }},
	{"Tidemill.Kinesis", func(c *Config) bool { return !c.Source.Direct() && !c.Source.Own() }},
	{"Tidemill.S3", func(c *Config) bool { return c.Objects.Region != "" || c.Objects.EndpointURL != "" }},
}

// served names what a configuration asks for that is not delivered.
func served(c *Config) (errs []error) {
	for _, u := range unserved {
		if u.asked(c) {
			errs = append(errs, fmt.Errorf("%s: is not served", u.member))
		}
	}
	return errs
}
