from detrex.config.schema import defaults

# detrex/config/schema.py says what each key means.
train = defaults("train")
