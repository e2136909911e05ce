"""One batch of rows, token by token: cache, sampler, budgets and the loop. Knows no tokenizer and no λ."""
